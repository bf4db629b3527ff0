"""action=advise: propose K_I and K_beta, from the short runs of grid=advise or from runs of another grid.

K_I comes from a static run. K_beta comes from a run with DLA and this K_I, because T decides which proposals are
positives. With grid=advise both are launched if they are missing; on Slurm each launch submits one and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import TRAIN, RunSpec
from experiments.config.build import build_grid
from experiments.config.choices import ADVISE
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.config.schema import Config
from experiments.planning.directories import Directories
from experiments.planning.logged import MOST, at_limit, limit_text, logged_rows, positives_limit
from experiments.planning.run_state import FINAL, disk_plan
from experiments.views import advice

_METHOD = "model.train_cfg.rcnn.dynamic_rcnn"
_LEAST_ROWS = 10
Launch = Callable[[Grid, Config, Sequence[str]], int]


def advise(grid: Grid, config: Config, arguments: Sequence[str], launch: Launch) -> int:
    """Print proposals for K_I and K_beta. Returns 0, or the exit code of a launch after which runs are not done."""
    static = _find(grid, dla=False)
    if static is None:
        raise UserError(f"grid={grid.name}: has no static arm, from which K_I is proposed; use grid={ADVISE}")
    if grid.name == ADVISE and (code := _launch_missing(arguments, [f"arms=[{static.arm}]"], launch)) is not None:
        return code
    rows, assigned = _rows(static, config.runs), _find(grid, dla=True)
    if len(rows) < _LEAST_ROWS:
        found = f"its train.jsonl has statistics by rank in {len(rows)} rows, and {_LEAST_ROWS} are needed"
        raise UserError(f"{static.name}: {found}; train it, or use grid={ADVISE}, which trains short runs")
    if grid.name == ADVISE and assigned is not None:
        iou_topk = advice.propose_iou_topk(rows)
        changes = f"{{{_METHOD}.label_assignment: true, {_METHOD}.iou_topk: {iou_topk}}}"
        more = [f"arms=[{assigned.arm}]", f"++grid.arms.{assigned.arm}.set={changes}"]
        if (code := _launch_missing(arguments, more, launch)) is not None:
            return code
        assigned = _resolve(arguments, more)[0].runs[0]
    later = _rows(assigned, config.runs) if assigned is not None else []
    source, later = (assigned, later) if assigned is not None and len(later) >= _LEAST_ROWS else (static, rows)
    print("\n".join(_text(static, rows, source, later)), flush=True)
    return 0


def _launch_missing(arguments: Sequence[str], more: Sequence[str], launch: Launch) -> int | None:
    """Launch the run that `more` chooses unless it is done. Returns the exit code if it is not done after that."""
    grid, config = _resolve(arguments, more)
    if disk_plan(grid, config.runs)[-1].state in FINAL:
        return None
    code = launch(grid, config, arguments)
    if disk_plan(grid, config.runs)[-1].state in FINAL:
        return None
    print("when this run is done, the same command continues from it")
    return code


def _resolve(arguments: Sequence[str], more: Sequence[str]) -> tuple[Grid, Config]:
    config, _ = resolve([*arguments, *more])
    return build_grid(config), config


def _find(grid: Grid, dla: bool) -> RunSpec | None:
    """The first run of the grid that trains without DSL, and with or without DLA."""
    for spec in (spec for spec in grid.runs if spec.task == TRAIN and spec.replay is None):
        method = _method(spec)
        if method["label_assignment"] == dla and not method["smooth_l1"]:
            return spec
    return None


def _method(spec: RunSpec) -> dict[str, Any]:
    return dict(spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"])


def _rows(spec: RunSpec, runs: Path) -> list[dict[str, Any]]:
    """The rows of the run's log that have statistics by rank."""
    rows = logged_rows(Directories(runs, spec.dataset["name"]).find(spec))
    return [row for row in rows if row.get("error_by_rank") is not None]


def _text(static: RunSpec, rows: list[dict[str, Any]], source: RunSpec, later: list[dict[str, Any]]) -> list[str]:
    """The tables, notes on their limits, and what to paste into a grid. `rows` are of `static`, `later` of `source`."""
    iou_topk, beta_topk = advice.propose_iou_topk(rows), advice.propose_beta_topk(later)
    goals = advice.targets(rows)[0], advice.targets(later)[1]
    lines = [
        f"T for each K_I, from {static.name}, {rows[-1]['iteration']} iterations; should end at {goals[0]:.2f}",
        *advice.table("K_I", advice.points(rows, "iou_by_rank"), iou_topk, _method(static)),
        f"beta for each K_beta, from {source.name}; should end at {goals[1]:.2f}",
        *advice.table("K_beta", advice.points(later, "error_by_rank"), beta_topk, _method(source)),
    ]
    if source is static:
        lines.append("note: there is no run with DLA, which has fewer positives with large errors and a smaller beta")
    limit = positives_limit(static)
    if limit and (share := max(at_limit(rows, limit), at_limit(later, limit))) > MOST:
        lines.append(f"note: {limit_text(limit, share)}")
    fields = f"{{train_cfg: {{rcnn: {{dynamic_rcnn: {{iou_topk: {iou_topk}, beta_topk: {beta_topk}}}}}}}}}"
    return [*lines, "for a grid file:", "base:", f"  model: {fields}"]

"""The plan: for each run of a grid its state, why, and what it still costs. Reads the disk, changes nothing."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.code import code_fingerprint
from dynamic_rcnn.run.directory import CORRUPT, PROVENANCE, SPEC, TRAIN_LOG, State, read_json, read_state
from dynamic_rcnn.run.spec import RunSpec, differences, find_run, is_aside
from experiments.grid import Grid
from experiments.manifest import manifest_path, read_manifest

_TAIL_BYTES = 4096


@dataclass(frozen=True)
class PlannedRun:
    """One run as it stands: state is new, running, failed, done or stale."""

    spec: RunSpec
    path: Path
    state: str
    why: str
    iteration: int
    iterations: int | None
    corrupt: bool = False

    @property
    def to_launch(self) -> bool:
        """Whether a launch starts it; never over a directory that holds something else than this run."""
        return self.state in ("new", "failed") and not self.corrupt


def make_plan(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Every run of the grid, the shared pretraining first. Arms of one identity have one directory."""
    paths: dict[str, Path] = {}
    plan = []
    for spec in grid.all_runs:
        first = spec.id not in paths
        path = paths.setdefault(spec.id, find_run(runs, spec))
        run = _planned(spec, path)
        if run.state in ("new", "done") and (not first or path.parent.name != spec.arm):
            run = replace(run, why=f"the same run as {path.parent.name}/seed{spec.seed}")
        plan.append(run)
    return [_with_start(run, plan[0]) if grid.pretrain else run for run in plan]


def _planned(spec: RunSpec, path: Path) -> PlannedRun:
    state = _checked_state(spec, path)
    name, why = state.name, ""
    if name == "absent":
        name, why = "new", _why_new(spec, path)
    elif name == "failed":
        why = f"{state.cause}: {state.message}" if state.message else str(state.cause)
    elif name == "done":
        why = _why_stale(path)
        name = "stale" if why else "done"
    total = state.max_iterations or spec.config["train"]["max_iters"]
    return PlannedRun(spec, path, name, why, state.iteration, total, corrupt=state.cause == CORRUPT)


def _with_start(run: PlannedRun, start: PlannedRun) -> PlannedRun:
    """`run` with a word on the run that it starts from, where that keeps it from starting."""
    if run is start or run.state not in ("new", "failed") or start.state != "failed":
        return run
    waits = f"waits for {start.spec.name}, which is not done"
    return replace(run, why=waits if run.state == "new" else f"{run.why}; {waits}")


def _checked_state(spec: RunSpec, path: Path) -> State:
    """The state of the run in `path`; CORRUPT if the directory holds another run."""
    state = read_state(path)
    if state.cause == CORRUPT or not path.exists():
        return state
    try:
        if state.name == "absent" and not (path / SPEC).exists():
            return state
        found = RunSpec.read(path).id
    except UserError as error:
        return State("failed", CORRUPT, f"{error}; move the run's directory away and launch again")
    if found == spec.id:
        return state
    message = f"{path}: its spec.json is of another run ({found}); move the run's directory away and launch again"
    return State("failed", CORRUPT, message)


def _why_stale(path: Path) -> str:
    try:
        made_by = str(read_json(path / PROVENANCE).get("code"))
    except UserError as error:
        return f"not known which code made it: {error}"
    now = code_now()
    return "" if made_by == now else f"made by other code ({made_by}, now {now}); rerun=stale runs it again"


@cache
def code_now() -> str:
    """The fingerprint of the code as it was when first asked for: a launch asks every second."""
    return code_fingerprint()


def _why_new(spec: RunSpec, path: Path) -> str:
    """Which fields make `spec` differ from the nearest run of the same arm and seed on disk."""
    changed = nearest_differences(spec, path)
    if changed is None:
        return ""
    other, fields = changed
    shown = "; ".join(f"{field}: {old} -> {new}" for field, old, new in fields[:3])
    more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
    return f"differs from {other.name} in {shown}{more}"


def nearest_differences(spec: RunSpec, path: Path) -> tuple[Path, list[tuple[str, Any, Any]]] | None:
    """(another run directory of this arm and seed, the fields with its and this run's value); None without one."""
    candidates = []
    for other in sorted(path.parent.glob(f"seed{spec.seed}-*")):
        if is_aside(other) or other.name == path.name:
            continue
        try:
            candidates.append((other, differences(RunSpec.read(other), spec)))
        except UserError:
            continue  # not one to compare with; it is named where it is this grid's
    return min(candidates, key=lambda item: len(item[1])) if candidates else None


def last_row(path: Path) -> dict[str, Any]:
    """The newest whole line of a run's train.jsonl, without reading all of it; {} if there is none."""
    try:
        with (path / TRAIN_LOG).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
        row = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}
    numbers = ("iteration", "loss", "T", "beta", "seconds")
    whole = isinstance(row, dict) and all(isinstance(row.get(key), int | float) for key in numbers)
    return row if whole else {}


def seconds_per_iteration(grid: Grid, runs: Path) -> tuple[float | None, str]:
    """Seconds an iteration of this grid's arms: measured by runs of the same setting, else declared in the grid."""
    rows = [last_row(runs / run["path"]) for run in read_manifest(manifest_path(grid, runs))]
    measured = [row["seconds"] for row in rows if row]
    if measured:
        return statistics.median(measured), f"measured over {len(measured)} runs"
    declared = grid.seconds.get(grid.dataset.split("_")[0])
    return declared, "declared in the grid" if declared else "not known"


def remaining_hours(plan: list[PlannedRun], seconds: float | None) -> float | None:
    """Hours of slot time that the runs to launch still take; None where it cannot be said."""
    left = {run.spec.id: run.iterations and run.iterations - run.iteration for run in plan if run.to_launch}
    if seconds is None or None in left.values():
        return None
    return sum(filter(None, left.values())) * seconds / 3600

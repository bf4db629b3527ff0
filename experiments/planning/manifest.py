"""The manifest beside the runs: what launches of a grid asked for, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import SCHEMA, read_json, write_json_atomic
from dynamic_rcnn.run.manifest import manifest_place
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.grid import Grid

_WAY_OUT = "delete the file, launching writes it again"


def manifest_path(grid: Grid, runs: Path) -> Path:
    return runs / manifest_place(grid.dataset, grid.name, grid.setting)


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The runs (arm, seed, path) that earlier launches of a grid asked for; [] without a manifest."""
    if not path.exists():
        return []
    try:
        runs = read_json(path).get("runs")
    except UserError as error:
        raise UserError(f"{error}; {_WAY_OUT}") from None
    if not isinstance(runs, list):
        raise UserError(f"{path}: field 'runs' must be a list; {_WAY_OUT}")
    for run in runs:
        kinds = {"arm": str, "seed": int, "path": str}
        if not isinstance(run, dict) or any(not isinstance(run.get(key), kind) for key, kind in kinds.items()):
            raise UserError(f"{path}: {run!r} in field 'runs' must have arm, seed and path; {_WAY_OUT}")
    return runs


def write_manifest(grid: Grid, runs: Path, paths: dict[str, Path]) -> None:
    """Write what this launch asks for, beside what earlier launches of the same setting and arms did.

    paths: each run's directory below `runs`, by its id.
    """
    target = manifest_path(grid, runs)
    asked = [_entry(spec, paths[spec.id].relative_to(runs)) for spec in grid.runs]
    now = {(run["arm"], run["seed"]) for run in asked}
    kept = [run for run in read_manifest(target) if (run["arm"], run["seed"]) not in now and _is_current(run, grid)]
    order = list(grid.arms)
    both = sorted(kept + asked, key=lambda run: (order.index(run["arm"]), run["seed"]))
    content = {
        "schema": SCHEMA,
        "grid": grid.name,
        "title": grid.title,
        "task": grid.task,
        "weights": weights_of(grid),
        "setting": grid.setting,
        "dataset": grid.dataset,
        "base": grid.base,
        "changed": grid.changed,
        "baseline": grid.baseline,
        **({"baselines": grid.baselines} if grid.baselines else {}),
        "arms": grid.arms,
        "seeds": sorted({run["seed"] for run in both}),
        "runs": both,
        "paper": grid.paper,
        "contrasts": grid.contrasts,
        **({"seen_seeds": grid.seen_seeds} if grid.seen_seeds else {}),
        **({"timed_arms": grid.timed_arms} if grid.timed_arms else {}),
    }
    write_json_atomic(target, content)


def weights_of(grid: Grid) -> dict[str, str] | None:
    """Name and sha256 of the file that the grid's runs evaluate; None where they train."""
    init = grid.runs[0].init
    return {"name": Path(init["file"]).name, "sha256": init["sha256"]} if init and "file" in init else None


def _entry(spec: RunSpec, path: Path) -> dict[str, Any]:
    return {"arm": spec.arm, "seed": spec.seed, "path": path.as_posix(), "setting": spec.setting}


def _is_current(run: dict[str, Any], grid: Grid) -> bool:
    """Whether an earlier launch's run is one of its arm as the grid has it now; its directory ends in its id."""
    return run["arm"] in grid.specs and run["path"].endswith(f"-{grid.spec(run['arm'], run['seed']).id}")

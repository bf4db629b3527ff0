"""The manifest beside the runs: what launches of a grid asked for, for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import GRID_SUFFIX, SCHEMA, read_json, write_json_atomic
from experiments.grid import Grid

_WAY_OUT = "delete the file, launching writes it again"


def manifest_path(grid: Grid, runs: Path) -> Path:
    return runs / grid.dataset / f"{grid.name}-{grid.setting}{GRID_SUFFIX}"


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The runs (arm, seed, path) that earlier launches of a grid asked for; [] without a manifest."""
    if not path.exists():
        return []
    runs = read_json(path).get("runs")
    if not isinstance(runs, list):
        raise UserError(f"{path}: field 'runs' must be a list; {_WAY_OUT}")
    for run in runs:
        kinds = {"arm": str, "seed": int, "path": str}
        if not isinstance(run, dict) or any(not isinstance(run.get(key), kind) for key, kind in kinds.items()):
            raise UserError(f"{path}: {run!r} in field 'runs' must have arm, seed and path; {_WAY_OUT}")
    return runs


def write_manifest(grid: Grid, runs: Path, paths: dict[str, Path]) -> None:
    """Write what this launch asks for, beside what earlier launches of the same setting did.

    paths: each run's directory below `runs`, by its id.
    """
    target = manifest_path(grid, runs)
    asked = [
        {"arm": spec.arm, "seed": spec.seed, "path": paths[spec.id].relative_to(runs).as_posix()} for spec in grid.runs
    ]
    now = {(run["arm"], run["seed"]) for run in asked}
    kept = [run for run in read_manifest(target) if (run["arm"], run["seed"]) not in now]
    order = {arm: number for number, arm in enumerate(grid.arms)}
    both = sorted(kept + asked, key=lambda run: (order.get(run["arm"], len(order)), run["arm"], run["seed"]))
    content = {
        "schema": SCHEMA,
        "grid": grid.name,
        "title": grid.title,
        "setting": grid.setting,
        "dataset": grid.dataset,
        "baseline": grid.baseline,
        "arms": grid.arms,
        "seeds": sorted({run["seed"] for run in both}),
        "runs": both,
        "paper": grid.paper,
    }
    write_json_atomic(target, content)

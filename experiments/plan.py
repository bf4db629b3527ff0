"""The plan: for each run of a grid its state, why, and what it still costs. Reads the disk, changes nothing."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.code import code_fingerprint
from dynamic_rcnn.run.directory import METRICS, PROVENANCE, TRAIN_LOG, read_json, read_jsonl, read_state
from dynamic_rcnn.run.spec import RunSpec, differences, find_run
from experiments.grid import Grid


@dataclass(frozen=True)
class PlannedRun:
    """One run as it stands: state is new, running, failed, done or stale."""

    spec: RunSpec
    path: Path
    state: str
    why: str
    iteration: int
    iterations: int | None

    @property
    def to_launch(self) -> bool:
        return self.state in ("new", "failed")


def make_plan(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Every run of the grid, the shared pretraining first."""
    code = code_fingerprint()
    return [_planned(spec, find_run(runs, spec), code) for spec in grid.all_runs]


def _planned(spec: RunSpec, path: Path, code: str) -> PlannedRun:
    state = read_state(path)
    total = state.max_iterations or spec.config["train"]["max_iters"]
    name, why = state.name, ""
    if name == "absent":
        name, why = "new", _why_new(spec, path)
    elif name == "failed":
        why = f"{state.cause}: {state.message}" if state.message else str(state.cause)
    elif name == "done":
        made_by = _code_of(path)
        if made_by != code:
            name, why = "stale", f"made by other code ({made_by}, now {code}); rerun=stale runs it again"
        elif path != spec.directory(path.parents[2]):
            why = f"the same run as arm {path.parent.name}"
    return PlannedRun(spec, path, name, why, state.iteration, total)


def _code_of(path: Path) -> str:
    try:
        return str(read_json(path / PROVENANCE)["code"])
    except (UserError, KeyError):
        return "unknown"


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
        if other.name.count(".") or other.name == path.name:
            continue
        try:
            candidates.append((other, differences(RunSpec.read(other), spec)))
        except (UserError, KeyError):
            continue
    return min(candidates, key=lambda item: len(item[1])) if candidates else None


def seconds_per_iteration(grid: Grid, runs: Path) -> tuple[float | None, str]:
    """Seconds an iteration of this grid's arms: measured by runs of the same setting, else declared in the grid."""
    measured = [rows[-1]["seconds"] for rows in _logs(grid, runs) if rows]
    if measured:
        return statistics.median(measured), f"measured over {len(measured)} runs"
    declared = grid.seconds.get(grid.dataset.split("_")[0])
    return declared, "declared in the grid" if declared else "not known"


def _logs(grid: Grid, runs: Path) -> list[list[dict[str, Any]]]:
    rows = []
    for entry in read_manifest(grid.manifest_path(runs)):
        try:
            rows.append(read_jsonl(runs / entry["path"] / TRAIN_LOG))
        except UserError:
            continue
    return rows


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The runs that earlier launches of a grid asked for; [] without a manifest."""
    if not path.exists():
        return []
    runs = read_json(path).get("runs")
    if not isinstance(runs, list):
        raise UserError(f"{path}: field 'runs' must be a list; delete the file, launching writes it again")
    return runs


def remaining_hours(plan: list[PlannedRun], seconds: float | None) -> float | None:
    """Hours of slot time that the runs to launch still take; None where it cannot be said."""
    if seconds is None or any(run.iterations is None for run in plan if run.to_launch):
        return None
    left = [run.iterations - run.iteration for run in plan if run.to_launch and run.iterations is not None]
    return sum(left) * seconds / 3600


def last_metrics(path: Path) -> dict[str, Any]:
    """The run's metrics where it is done, else {}."""
    try:
        return dict(read_json(path / METRICS)["metrics"])
    except (UserError, KeyError):
        return {}

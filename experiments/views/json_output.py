"""Plan and status for scripts (json=true): one JSON document.

schema: 1
grid, dataset, setting, runs_folder
time: when the document was made, in seconds since the epoch
slurm: the error, if Slurm did not answer and states are those on disk; else null
counts: state -> number of runs
runs: one object per run, the pretrainings first:
    arm, seed, id, path (of its directory), task (train, evaluate or benchmark)
    state: new, queued, running, failed, done or stale; why: in words
    job, node: Slurm's job and nodes, of the queue or the newest attempt; without Slurm null and the host
    attempts: number of attempts
    iteration, iterations, percent, seconds_left (of a running run)
    seconds, data_seconds, images_per_second, peak_bytes: of the newest row of train.jsonl; null before the first
    AP, AP90: fractions; of a run that is not done, those of its last evaluation
    trajectory: on COCO, whether T and beta follow the published curves, in words; else null
    cause, message: of a failure
    log: the newest attempt's log (of rank 0)
cost: with action=plan only; a field is null if its value is unknown:
    executor (local or slurm), processes and gpus of one run (gpus is null on this machine)
    hours_to_launch, hours_going: of the runs to launch, and of those queued or running, one after another
    gpu_hours_to_launch, gpu_hours_going, max_gpu_hours: on Slurm
    seconds_per_iteration: arm -> {seconds, source}
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.run.train_log import TIMING
from experiments.config.grid import Grid
from experiments.planning.cost import Cost
from experiments.planning.last_rows import last_row
from experiments.planning.run_state import PlannedRun
from experiments.planning.trajectory import describe_trajectory
from experiments.views import logs
from experiments.views.tables import newest_metrics, seconds_left, state_counts

if TYPE_CHECKING:
    from slurm.site_profile import Profile

_RUN_FIELDS = ("state", "why", "job", "node", "iteration", "iterations")


def document(
    plan: Sequence[PlannedRun], grid: Grid, runs: Path, slurm_error: str | None, cost: dict[str, Any] | None = None
) -> str:
    """The JSON document that the module's docstring describes."""
    content = {
        "schema": 1,
        "grid": grid.name,
        "dataset": grid.dataset,
        "setting": grid.setting,
        "runs_folder": str(runs),
        "time": time.time(),
        "slurm": slurm_error,
        "counts": state_counts(plan),
        "runs": [_run_fields(run) for run in plan],
    }
    return json.dumps(content if cost is None else {**content, "cost": cost}, allow_nan=False)


def cost_fields(cost: Cost, plan: Sequence[PlannedRun], profile: Profile | None) -> dict[str, Any]:
    """The field `cost` of the document."""
    gpus = profile.gpus if profile else None
    hours = {"to_launch": cost.to_launch, "going": cost.in_progress}
    return {
        "executor": "slurm" if profile else "local",
        "processes": plan[0].spec.processes,
        "gpus": gpus,
        **{f"hours_{name}": value for name, value in hours.items()},
        **{
            f"gpu_hours_{name}": None if value is None or gpus is None else value * gpus
            for name, value in hours.items()
        },
        "max_gpu_hours": profile.max_gpu_hours if profile else None,
        "seconds_per_iteration": {
            arm: {"seconds": step.seconds, "source": step.source} for arm, step in cost.step_times.items()
        },
    }


def _run_fields(run: PlannedRun) -> dict[str, Any]:
    metrics, log, row = newest_metrics(run), logs.newest_log(run), last_row(run.path) if run.status else {}
    failed = run.state == "failed"
    return {
        **{name: getattr(run.spec, name) for name in ("arm", "seed", "task", "id")},
        **{name: getattr(run, name) for name in _RUN_FIELDS},
        "path": str(run.path),
        "attempts": len(run.attempts),
        "percent": 100 * run.iteration / run.iterations if run.iterations else None,
        "seconds_left": seconds_left(run, row) if run.state == "running" else None,
        **{name: row.get(name) for name in TIMING},
        "AP": metrics.get("AP"),
        "AP90": metrics.get("AP90"),
        "trajectory": describe_trajectory(run),
        "cause": run.cause if failed else None,
        "message": run.message if failed else None,
        "log": str(log) if log else None,
    }

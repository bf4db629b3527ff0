"""Plan and status for scripts (json=true): one JSON document.

schema      1
grid, dataset, setting, runs_folder
time        when it was made, seconds since the epoch
slurm       why the states are those on disk alone, where Slurm was asked and did not answer; else null
counts      state -> number of runs
runs        one object a run, the shared pretraining first:
    arm, seed, id, path (of its directory), task (train or evaluate)
    state               new, queued, running, failed, done or stale
    why                 in words
    job, node           Slurm's job and nodes, in the queue or of the newest attempt; without Slurm null and the host
    attempts            how many there were
    iteration, iterations, percent, seconds_left (of a running run)
    AP, AP90            fractions: of the run, or evaluated last on the way
    trajectory          on COCO: whether T and beta follow what was published, in words; null where nothing is published
    cause, message      of a failure: see the outcomes of attempts in the README
    log                 of the newest attempt (its rank 0)
cost        action=plan only; null where it is not known:
    executor            local or slurm
    processes, gpus     of one run; gpus is null on this machine
    hours_to_launch, hours_going      training, one run at a time: what a launch would start; what is queued or runs
    gpu_hours_to_launch, gpu_hours_going, max_gpu_hours                 on Slurm
    seconds_per_iteration             arm -> {seconds, source}
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config.grid import Grid
from experiments.planning.cost import Cost
from experiments.planning.run_state import PlannedRun, course, last_row
from experiments.views import logs
from experiments.views.tables import newest_metrics, seconds_left, state_counts
from slurm.site_profile import Profile


def document(
    plan: Sequence[PlannedRun], grid: Grid, runs: Path, slurm_error: str | None, cost: dict[str, Any] | None = None
) -> str:
    """The document as text. slurm_error: why Slurm did not answer."""
    content = {
        "schema": 1,
        "grid": grid.name,
        "dataset": grid.dataset,
        "setting": grid.setting,
        "runs_folder": str(runs),
        "time": time.time(),
        "slurm": slurm_error,
        "counts": state_counts(plan),
        "runs": [_run(run) for run in plan],
    }
    return json.dumps(content if cost is None else {**content, "cost": cost}, allow_nan=False)


def cost_fields(cost: Cost, plan: Sequence[PlannedRun], profile: Profile | None) -> dict[str, Any]:
    """The field `cost` of the document."""
    gpus = profile.gpus if profile else None
    return {
        "executor": "slurm" if profile else "local",
        "processes": plan[0].spec.processes,
        "gpus": gpus,
        "hours_to_launch": cost.launch,
        "hours_going": cost.going,
        "gpu_hours_to_launch": _times(cost.launch, gpus),
        "gpu_hours_going": _times(cost.going, gpus),
        "max_gpu_hours": profile.max_gpu_hours if profile else None,
        "seconds_per_iteration": {
            arm: {"seconds": speed.seconds, "source": speed.source} for arm, speed in cost.speeds.items()
        },
    }


def _times(hours: float | None, gpus: int | None) -> float | None:
    return None if hours is None or gpus is None else hours * gpus


def _run(run: PlannedRun) -> dict[str, Any]:
    metrics, log = newest_metrics(run), logs.newest_log(run)
    failed = run.state == "failed"
    return {
        "arm": run.spec.arm,
        "seed": run.spec.seed,
        "task": run.spec.task,
        "id": run.spec.id,
        "path": str(run.path),
        "state": run.state,
        "why": run.why,
        "job": run.job,
        "node": run.node,
        "attempts": len(run.attempts),
        "iteration": run.iteration,
        "iterations": run.iterations,
        "percent": 100 * run.iteration / run.iterations if run.iterations else None,
        "seconds_left": seconds_left(run, last_row(run.path)) if run.state == "running" else None,
        "AP": metrics.get("AP"),
        "AP90": metrics.get("AP90"),
        "trajectory": course(run),
        "cause": run.cause if failed else None,
        "message": run.message if failed else None,
        "log": str(log) if log else None,
    }

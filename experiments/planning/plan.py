"""The plan: the state of each run of a grid and why, from disk and, for submitted runs, from Slurm's queue."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from dynamic_rcnn.errors import UserError
from experiments.config.grid import Grid
from experiments.planning.run_state import PlannedRun, disk_plan, note_failed_needs

_REFRESH_S, _REFRESH_SLURM_S = 2.0, 10.0  # Slurm's controller is asked less often than the disk
_SUBMISSIONS = ".slurm"  # slurm.submission_record.FOLDER: a grid that was never submitted imports nothing of slurm


def make_plan(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Every run of the grid, the pretrainings first. Changes nothing.

    Raises:
        SlurmError: submitted runs are not done and Slurm does not answer, so that their state is unknown.
    """
    return note_failed_needs(_with_jobs(disk_plan(grid, runs), grid, runs))


def plan_or_disk(grid: Grid, runs: Path) -> tuple[list[PlannedRun], str | None]:
    """Like `make_plan`, but if Slurm does not answer, returns the states on disk and a line about Slurm's error."""
    plan = disk_plan(grid, runs)
    try:
        return note_failed_needs(_with_jobs(plan, grid, runs)), None
    except UserError as error:  # Slurm does not answer, or a record of submissions cannot be read
        return note_failed_needs(plan), f"{error}; states are those on disk, without the queue"


def plan_reporting_errors(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Like `plan_or_disk`, but prints Slurm's error to stderr."""
    plan, slurm_error = plan_or_disk(grid, runs)
    if slurm_error is not None:
        print(slurm_error, file=sys.stderr, flush=True)
    return plan


def in_progress(plan: Iterable[PlannedRun]) -> bool:
    """Whether any run is queued or running."""
    return any(run.state in ("queued", "running") for run in plan)


def refresh_seconds(plan: Iterable[PlannedRun]) -> float:
    """How long to wait before the plan is made again, to watch it."""
    return _REFRESH_SLURM_S if any(run.in_queue for run in plan) else _REFRESH_S


def is_submitted(grid: Grid, runs: Path) -> bool:
    """Whether any run on the grid's data set was ever submitted to Slurm from this run folder."""
    return (runs / grid.dataset / _SUBMISSIONS).exists()


def _with_jobs(plan: list[PlannedRun], grid: Grid, runs: Path) -> list[PlannedRun]:
    if not is_submitted(grid, runs):
        return plan
    from experiments.planning.slurm_state import with_jobs

    return with_jobs(plan, grid, runs)

"""The plan: for each run of a grid its state and why, from disk and, where runs were submitted, from Slurm's queue."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.errors import UserError
from experiments.config.grid import Grid
from experiments.planning.run_state import PlannedRun, disk_plan, with_needs
from experiments.planning.slurm_state import with_jobs


def make_plan(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Every run of the grid, the shared pretraining first; changes nothing.

    Raises SlurmError if runs were submitted that are not done and Slurm does not answer: to launch would be to guess.
    """
    return with_needs(with_jobs(disk_plan(grid, runs), grid, runs))


def plan_or_disk(grid: Grid, runs: Path) -> tuple[list[PlannedRun], str | None]:
    """The plan to look at: as `make_plan`; where Slurm does not answer, as on disk, and a line that says so."""
    plan = disk_plan(grid, runs)
    try:
        return with_needs(with_jobs(plan, grid, runs)), None
    except UserError as error:  # Slurm does not answer, or what was submitted cannot be read
        return with_needs(plan), f"{error}; states are those on disk, without the queue"

"""The doctor's finding on the runs that a grid already has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dynamic_rcnn.run.spec import TRAIN
from experiments.config.grid import Grid
from experiments.doctor.findings import NOTE, Finding
from experiments.planning.directories import Directories
from experiments.planning.logged import MOST, at_limit, limit_text, logged_rows, positives_limit


def check_positives(grid: Grid, runs: Path) -> Iterator[Finding]:
    """Yield a note for each sampler whose limit the positives reach in most logged iterations of a run."""
    directories = Directories(runs, grid.dataset)
    found: dict[int, dict[str, float]] = {}  # limit -> arm -> largest share of its runs
    for spec in (spec for spec in grid.runs if spec.task == TRAIN):
        limit = positives_limit(spec)
        share = at_limit(logged_rows(directories.find(spec)), limit) if limit else 0.0
        if limit and share > MOST:
            arms = found.setdefault(limit, {})
            arms[spec.arm] = max(share, arms.get(spec.arm, 0.0))
    for limit, arms in found.items():
        yield Finding(NOTE, "positives", f"in {', '.join(arms)}, {limit_text(limit, max(arms.values()))}")

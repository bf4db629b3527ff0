"""The arms of one grid against each other: means, sds and differences from the baseline, in percent AP.

A metric is a name of `run_files.METRICS`, or an IoU threshold as a float (AP at that threshold).
"""

from __future__ import annotations

from collections import Counter

import pandas as pd

from analysis.collect import Records
from analysis.grids import Grid
from analysis.run_files import METRICS
from analysis.statistics import Difference, Pooled, Summary, difference, pooled, summarize

Metric = str | float
PERCENT = 100.0


class Comparison:
    """Statistics of a grid's finished runs. Runs that are not done count in `states` alone."""

    def __init__(self, records: Records, grid: Grid) -> None:
        self.grid = grid
        self.runs = records.of(grid)
        self._values = _values(records, grid)

    @property
    def others(self) -> list[str]:
        """The arms other than the baseline, in table order."""
        return [arm for arm in self.grid.arms if arm != self.grid.baseline]

    @property
    def n_done(self) -> int:
        return int((self.runs["state"] == "done").sum())

    def values(self, metric: Metric, arm: str) -> dict[int, float]:
        """Seed -> percent, of the finished runs in which the metric is defined."""
        return self._values.get((metric, arm), {})

    def summary(self, metric: Metric, arm: str) -> Summary:
        return summarize(self.values(metric, arm).values())

    def noise(self, metric: Metric) -> Pooled:
        """The sd pooled over all arms of the grid."""
        return pooled(self.values(metric, arm).values() for arm in self.grid.arms)

    def difference(self, metric: Metric, arm: str) -> Difference | None:
        """The arm minus the baseline; None if either has no finished run."""
        return difference(self.values(metric, arm), self.values(metric, self.grid.baseline), self.noise(metric))

    def states(self, arm: str) -> list[tuple[str, int]]:
        """(state with its cause, how many runs), done first, of the arm's runs."""
        rows = self.runs[self.runs["arm"] == arm]
        counts = Counter(describe_state(row.state, row.cause) for row in rows.itertuples())
        return sorted(counts.items(), key=lambda item: (item[0] != "done", item[0]))

    def seconds(self, arm: str) -> Summary:
        """Over the finished runs: their median seconds an iteration."""
        rows = self.runs[(self.runs["arm"] == arm) & (self.runs["state"] == "done")]
        return summarize(rows["seconds"].tolist())

    def seeds_text(self) -> str:
        """How many finished seeds the arms have: '3 seeds an arm', or the range."""
        counts = [self.summary("AP", arm).n for arm in self.grid.arms]
        low, high = min(counts), max(counts)
        if low != high:
            return f"{low} to {high} seeds an arm"
        return f"{low} seed{'' if low == 1 else 's'} an arm"


def describe_state(state: object, cause: object) -> str:
    """'failed (NaN)', 'done', 'missing'."""
    return f"{state} ({cause})" if isinstance(cause, str) and state != "done" else str(state)


def _values(records: Records, grid: Grid) -> dict[tuple[Metric, str], dict[int, float]]:
    done = records.done(grid)[["arm", "seed", "path", *METRICS]]
    by_name = done.melt(["arm", "seed", "path"], METRICS, "metric", "AP_")
    by_iou = done[["arm", "seed", "path"]].merge(records.thresholds, on="path")
    rows = [
        *by_name.itertuples(index=False),
        *by_iou[["arm", "seed", "path", "iou", "AP"]].itertuples(index=False),
    ]
    values: dict[tuple[Metric, str], dict[int, float]] = {}
    for arm, seed, _, metric, value in rows:
        if pd.notna(value):
            values.setdefault((metric, arm), {})[int(seed)] = PERCENT * float(value)
    return values

"""The arms of one grid against each other: means, sds and differences from the baseline, in percent AP.

A metric is a name of BOX_METRICS or MASK_METRICS, or an IoU threshold as a float (AP at that threshold).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from analysis.reading.consistency import mixed_arms
from analysis.reading.manifest import Grid
from analysis.reading.reader import UNREADABLE
from analysis.reading.records import Records
from analysis.stats.seeds import (
    Difference,
    Pooled,
    Summary,
    corrected_by_holm,
    detectable,
    difference,
    mean_interval,
    pooled,
    summarize,
)
from dynamic_rcnn.metrics.names import BOX_METRICS, MASK_METRICS
from dynamic_rcnn.run.published_curves import Trajectory, trajectory
from dynamic_rcnn.run.published_trends import Point, Trend, trends

Metric = str | float
PERCENT = 100.0


class Comparison:
    """Statistics of a grid's finished runs. Arms of one identity share their runs.

    Runs that are not done, and those of an arm whose runs have several settings (`mixed`: arm -> settings),
    count in `states` alone.
    """

    def __init__(self, records: Records, grid: Grid) -> None:
        self._records, self.grid = records, grid
        self.runs = records.of(grid)
        done = records.done(grid)
        self.n_done = len(done)
        self.mixed = mixed_arms(done)
        self.averaged = done[~done["arm"].isin(list(self.mixed))]
        self._values = _values(records, self.averaged)
        self._noise: dict[Metric, Pooled] = {}
        self._differences: dict[Metric, dict[str, Difference | None]] = {}
        self._contrasts: dict[Metric, dict[str, Difference | None]] = {}
        known = records.curves[["path", "iteration", "T", "beta"]].dropna()
        self._points = known[known["path"].isin(self.runs["path"])]
        keys = zip(self.averaged["arm"], self.averaged["seed"], strict=True)
        self._paths: dict[tuple[str, int], str] = dict(zip(keys, self.averaged["path"], strict=True))
        self._paths_of: dict[str, set[str]] = {}
        for (arm, _), path in self._paths.items():
            self._paths_of.setdefault(arm, set()).add(path)

    def unseen(self) -> Comparison | None:
        """The same without the seeds whose results were in sight when settings were chosen; None if it has none."""
        cells = [cell for cell in self.grid.cells if cell.seed not in self.grid.seen_seeds]
        if not cells or len(cells) == len(self.grid.cells):
            return None
        return Comparison(self._records, self.grid.model_copy(update={"cells": cells}))

    @property
    def others(self) -> list[str]:
        """The arms that no arm stands against, in table order."""
        baselines = {self.grid.baseline, *self.grid.baselines.values()}
        return [arm for arm in self.grid.arms if arm not in baselines]

    def values(self, metric: Metric, arm: str) -> dict[int, float]:
        """Seed -> percent, of the finished runs in which the metric is defined."""
        return self._values.get((metric, arm), {})

    @property
    def has_masks(self) -> bool:
        """Whether a finished run has metrics of masks."""
        return any(metric in MASK_METRICS for metric, _ in self._values)

    def paths(self, *arms: str) -> list[str]:
        """The runs that the arms' means are over, in table order, each once."""
        return list(dict.fromkeys(path for (arm, _), path in self._paths.items() if arm in arms))

    def summary(self, metric: Metric, arm: str) -> Summary:
        return summarize(self.values(metric, arm).values())

    def noise(self, metric: Metric) -> Pooled:
        """The sd pooled over all arms of the grid; a run that several arms share counts once."""
        if metric not in self._noise:
            self._noise[metric] = self._pooled(metric)
        return self._noise[metric]

    def interval(self, metric: Metric, arm: str) -> tuple[float | None, float | None]:
        """The t interval of the arm's mean, on the pooled sd; (None, None) where the noise is not known."""
        return mean_interval(self.summary(metric, arm), self.noise(metric))

    def _pooled(self, metric: Metric) -> Pooled:
        groups, counted = [], set[str]()
        for arm in self.grid.arms:
            values = {self._paths[arm, seed]: value for seed, value in self.values(metric, arm).items()}
            groups.append([value for path, value in values.items() if path not in counted])
            counted |= set(values)
        return pooled(groups)

    def same_runs(self, arm: str, other: str | None = None) -> bool:
        """Whether two arms (other: None for its baseline) share runs: they are one configuration then."""
        pair = (arm, other or self.grid.baseline_of(arm))
        ours, theirs = (self._paths_of.get(name, set()) for name in pair)
        return not ours.isdisjoint(theirs)

    def difference(self, metric: Metric, arm: str) -> Difference | None:
        """The arm minus its baseline, corrected for the number of arms (Holm).

        None if either has no finished run, or if they are the same runs.
        """
        if metric not in self._differences:
            found = {other: self._minus(metric, other, self.grid.baseline_of(other)) for other in self.others}
            self._differences[metric] = corrected_by_holm(found)
        return self._differences[metric].get(arm)

    def contrast(self, metric: Metric, pair: tuple[str, str]) -> Difference | None:
        """The first arm minus the second one, corrected for the number of contrasts (Holm); None as above."""
        if metric not in self._contrasts:
            found = {" ".join(each): self._minus(metric, *each) for each in self.grid.contrasts}
            self._contrasts[metric] = corrected_by_holm(found)
        return self._contrasts[metric][" ".join(pair)]

    def _minus(self, metric: Metric, arm: str, other: str) -> Difference | None:
        if self.same_runs(arm, other):
            return None
        return difference(self.values(metric, arm), self.values(metric, other), self.noise(metric))

    def detectable(self, metric: Metric, arm: str) -> float | None:
        """The smallest difference between this arm and its baseline that so many seeds show 4 times out of 5."""
        counts = [self.summary(metric, each).n for each in (arm, self.grid.baseline_of(arm))]
        return detectable(self.noise(metric), counts)

    def states(self, arm: str) -> list[tuple[str, int]]:
        """(state with its cause, how many runs), done first, of the arm's runs."""
        rows = self.runs.loc[self.runs["arm"] == arm, ["state", "cause"]]
        counts = Counter(describe_state(state, cause) for state, cause in rows.itertuples(index=False))
        return sorted(counts.items(), key=lambda item: (item[0] != "done", item[0]))

    def trajectories(self, arm: str) -> list[Trajectory]:
        """T at the published iterations in each run of the arm that was asked for, finished or not."""
        return [trajectory(points) for points, _ in self._courses(arm)]

    def trends(self, arm: str, method: dict[str, Any]) -> list[list[Trend]]:
        """Figure 5's trends in each run of the arm that was asked for, finished or not."""
        return [trends(points, points[max(points)] if done else None, method) for points, done in self._courses(arm)]

    def _courses(self, arm: str) -> list[tuple[dict[int, Point], bool]]:
        """(T and beta by iteration, whether it is done) of each of the arm's runs."""
        rows = self.runs[self.runs["arm"] == arm]
        found = []
        for path, state in zip(rows["path"], rows["state"], strict=True):
            own = self._points[self._points["path"] == path]
            points = zip(own["iteration"], own["T"], own["beta"], strict=True)
            by_iteration = {int(at): Point(float(threshold), float(beta)) for at, threshold, beta in points}
            found.append((by_iteration, state == "done" and bool(by_iteration)))
        return found

    def seeds_text(self) -> str:
        """How many finished seeds the arms have: '3 seeds per arm', or the range."""
        counts = [self.summary("AP", arm).n for arm in self.grid.arms]
        low, high = min(counts), max(counts)
        if low != high:
            return f"{low} to {high} seeds per arm"
        return f"{low} seed{'' if low == 1 else 's'} per arm"


def describe_state(state: object, cause: object) -> str:
    """'failed (NaN)', 'done', 'missing'."""
    return f"{state} ({cause})" if isinstance(cause, str) and state != "done" else str(state)


def is_lost(state: str) -> bool:
    """Whether `state`, as described, is of a run without which the others are a selection."""
    return state.startswith(("failed", UNREADABLE))


def _values(records: Records, runs: pd.DataFrame) -> dict[tuple[Metric, str], dict[int, float]]:
    names = [*BOX_METRICS, *MASK_METRICS]
    done = runs[["arm", "seed", "path", *names]]
    by_name = done.melt(["arm", "seed", "path"], names, "metric", "AP_")
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

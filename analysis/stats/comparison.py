"""Compares the arms of one grid: means, standard deviations and differences from the baseline, in percent AP.

A metric is a name of `dynamic_rcnn.metrics.names`, or an IoU threshold as a float (AP at that threshold).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from analysis.reading.consistency import mixed_arms
from analysis.reading.run import UNREADABLE
from analysis.reading.run_table import RunTable
from analysis.stats import seeds
from analysis.stats.seeds import Difference, PooledSd, Summary
from dynamic_rcnn.metrics.names import BOX_METRICS, MASK_METRICS
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.run.published_curves import Point, Trajectory, Trend, trajectory, trends
from dynamic_rcnn.wording import plural

Metric = str | float
PERCENT = 100.0


class Comparison:
    """Statistics of the finished runs of a grid. Arms with the same configuration share their runs.

    Attributes:
        runs: one row per run of the grid.
        n_done: number of finished runs.
        mixed: arms whose runs have several settings, and these settings.
        averaged: the finished runs of all other arms. Only `states` counts the rest.
        others: the arms that are not a baseline, in table order.
    """

    def __init__(self, table: RunTable, grid: Manifest) -> None:
        self._table, self.grid = table, grid
        self.runs = table.runs_of(grid)
        finished = self.runs[self.runs["state"] == "done"]
        self.n_done = len(finished)
        self.mixed = mixed_arms(finished)
        self.averaged = finished[~finished["arm"].isin(list(self.mixed))]
        baselines = {grid.baseline, *grid.baselines.values()}
        self.others = [arm for arm in grid.arms if arm not in baselines]
        self._values = _values(table, self.averaged)
        self._noise: dict[Metric, PooledSd] = {}
        self._differences: dict[Metric, dict[str, Difference | None]] = {}
        self._contrasts: dict[Metric, dict[str, Difference | None]] = {}
        self._paths: dict[str, dict[int, str]] = {}  # arm -> seed -> path, in table order
        for arm, seed, path in self.averaged[["arm", "seed", "path"]].itertuples(index=False):
            self._paths.setdefault(arm, {})[seed] = path
        self._states: dict[str, Counter[str]] = {arm: Counter() for arm in grid.arms}
        for arm, state, cause in self.runs[["arm", "state", "cause"]].itertuples(index=False):
            self._states[arm][describe_state(state, cause)] += 1

    def without_seen_seeds(self) -> Comparison | None:
        """The comparison without the seen seeds; None if the grid has no seen seeds, or no others."""
        cells = [cell for cell in self.grid.cells if cell.seed not in self.grid.seen_seeds]
        if not cells or len(cells) == len(self.grid.cells):
            return None
        return Comparison(self._table, self.grid.model_copy(update={"cells": cells}))

    def values(self, metric: Metric, arm: str) -> dict[int, float]:
        """Seed -> percent, of the finished runs in which the metric is defined."""
        return self._values.get((metric, arm), {})

    @property
    def has_masks(self) -> bool:
        """Whether a finished run has metrics of masks."""
        return any(metric in MASK_METRICS for metric, _ in self._values)

    def paths(self, *arms: str) -> list[str]:
        """The runs that the means of these arms are over, in table order, each once."""
        paths = [path for arm, by_seed in self._paths.items() if arm in arms for path in by_seed.values()]
        return list(dict.fromkeys(paths))

    def summary(self, metric: Metric, arm: str) -> Summary:
        return seeds.summarize(self.values(metric, arm).values())

    def noise(self, metric: Metric) -> PooledSd:
        """The sd pooled over all arms of the grid; a run that several arms share counts once."""
        if metric not in self._noise:
            groups, counted = [], set[str]()
            for arm in self.grid.arms:
                values = {self._paths[arm][seed]: value for seed, value in self.values(metric, arm).items()}
                groups.append([value for path, value in values.items() if path not in counted])
                counted |= set(values)
            self._noise[metric] = seeds.pool_sd(groups)
        return self._noise[metric]

    def interval(self, metric: Metric, arm: str) -> tuple[float | None, float | None]:
        """The t interval of the arm's mean on the pooled sd; (None, None) if the noise is unknown."""
        return seeds.mean_interval(self.summary(metric, arm), self.noise(metric))

    def same_runs(self, arm: str, other: str | None = None) -> bool:
        """Whether two arms share runs, and thus are one configuration. other: None for the arm's baseline."""
        ours, theirs = (self._paths.get(each, {}) for each in (arm, other or self.grid.baseline_of(arm)))
        return not set(ours.values()).isdisjoint(theirs.values())

    def difference(self, metric: Metric, arm: str) -> Difference | None:
        """The arm minus its baseline, corrected for the number of arms (Holm).

        None if either has no finished run, or if they are the same runs.
        """
        if metric not in self._differences:
            differences = {name: self._minus(metric, name, self.grid.baseline_of(name)) for name in self.others}
            self._differences[metric] = seeds.correct_by_holm(differences)
        return self._differences[metric].get(arm)

    def contrast(self, metric: Metric, pair: tuple[str, str]) -> Difference | None:
        """The first arm minus the second one, corrected for the number of contrasts (Holm). None: see `difference`."""
        if metric not in self._contrasts:
            differences = {" ".join(pair): self._minus(metric, *pair) for pair in self.grid.contrasts}
            self._contrasts[metric] = seeds.correct_by_holm(differences)
        return self._contrasts[metric][" ".join(pair)]

    def _minus(self, metric: Metric, arm: str, other: str) -> Difference | None:
        if self.same_runs(arm, other):
            return None
        return seeds.difference(self.values(metric, arm), self.values(metric, other), self.noise(metric))

    def detectable_difference(self, metric: Metric, arm: str) -> float | None:
        """The smallest difference of this arm from its baseline that their numbers of seeds detect 4 times out of 5."""
        counts = [self.summary(metric, each).n for each in (arm, self.grid.baseline_of(arm))]
        return seeds.detectable_difference(self.noise(metric), counts)

    def states(self, arm: str) -> list[tuple[str, int]]:
        """The states of the arm's runs with their causes, and how many runs have each; done first."""
        return sorted(self._states[arm].items(), key=lambda item: (item[0] != "done", item[0]))

    def trajectories(self, arm: str) -> list[Trajectory]:
        """T at the published iterations, for each of the arm's runs, finished or not."""
        return [trajectory(points) for points, _ in self._points(arm)]

    def trends(self, arm: str, method: dict[str, Any]) -> list[list[Trend]]:
        """The trends of Figure 5, for each of the arm's runs, finished or not."""
        return [trends(points, points[max(points)] if done else None, method) for points, done in self._points(arm)]

    def _points(self, arm: str) -> list[tuple[dict[int, Point], bool]]:
        """T and beta by iteration, and whether the run is finished, for each of the arm's runs."""
        runs = self.runs[self.runs["arm"] == arm]
        curves = self._table.curves[self._table.curves["path"].isin(runs["path"])]
        curves = curves[["path", "iteration", "T", "beta"]].dropna()
        found = []
        for path, state in zip(runs["path"], runs["state"], strict=True):
            own = curves[curves["path"] == path]
            rows = zip(own["iteration"], own["T"], own["beta"], strict=True)
            points = {int(iteration): Point(float(t), float(beta)) for iteration, t, beta in rows}
            found.append((points, state == "done" and bool(points)))
        return found

    def seeds_text(self) -> str:
        """The number of finished seeds: '3 seeds per arm', or the range."""
        counts = [self.summary("AP", arm).n for arm in self.grid.arms]
        low, high = min(counts), max(counts)
        return f"{low} to {high} seeds per arm" if low != high else f"{plural('seed', low)} per arm"


def describe_state(state: object, cause: object) -> str:
    """'failed (NaN)', 'done', 'missing'."""
    return f"{state} ({cause})" if isinstance(cause, str) and state != "done" else str(state)


def is_lost(state: str) -> bool:
    """Whether a described state is failed or unreadable, so that the remaining runs are a selection."""
    return state.startswith(("failed", UNREADABLE))


def _values(table: RunTable, runs: pd.DataFrame) -> dict[tuple[Metric, str], dict[int, float]]:
    """(metric, arm) -> seed -> percent."""
    names, keys = [*BOX_METRICS, *MASK_METRICS], ["arm", "seed", "path"]
    by_name = runs.melt(keys, names, "metric", "score")
    by_iou = runs[keys].merge(table.thresholds.rename(columns={"iou": "metric", "AP": "score"}), on="path")
    values: dict[tuple[Metric, str], dict[int, float]] = {}
    for frame in (by_name, by_iou):
        known = frame[frame["score"].notna()]
        for arm, seed, metric, score in zip(*(known[name] for name in ("arm", "seed", "metric", "score")), strict=True):
            values.setdefault((metric, arm), {})[int(seed)] = PERCENT * float(score)
    return values

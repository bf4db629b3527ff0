"""From tidy tables to the numbers that the figures draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.reading.records import Records
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import finite, mean, running_mean
from dynamic_rcnn.metrics.names import IOU_THRESHOLDS
from dynamic_rcnn.run.train_log import HISTOGRAMS, LOG_COLUMNS

SMOOTHING = 0.05  # width of the running mean, as a fraction of a run's logged points


@dataclass(frozen=True)
class Band:
    """A curve with its band: four sequences of the same length."""

    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


Curves = Mapping[str, Band]  # arm -> its curve, in table order
Runs = dict[str, list[dict[str, list[float]]]]  # arm -> its runs, by seed: a name of LOG_COLUMNS -> one value per point


def ap_by_iou(comparison: Comparison) -> Curves:
    """Mean AP at each IoU threshold in percent; the band is the 90% interval of the mean, if any."""
    bands = {}
    for arm in comparison.grid.arms:
        means = [comparison.summary(iou, arm).mean for iou in IOU_THRESHOLDS]
        middle = [math.nan if mean is None else mean for mean in means]
        limits = [comparison.interval(iou, arm) for iou in IOU_THRESHOLDS]
        low = [m if limit[0] is None else limit[0] for limit, m in zip(limits, middle, strict=True)]
        high = [m if limit[1] is None else limit[1] for limit, m in zip(limits, middle, strict=True)]
        bands[arm] = Band(IOU_THRESHOLDS, middle, low, high)
    return bands


def difference_by_iou(comparison: Comparison) -> Curves:
    """Arm minus baseline at each IoU threshold in points of AP; the band is the 90% interval, if any."""
    bands = {}
    for arm in comparison.others:
        found = [comparison.difference(iou, arm) for iou in IOU_THRESHOLDS]
        middle = [math.nan if d is None else d.value for d in found]
        low = [m if d is None or d.low is None else d.low for d, m in zip(found, middle, strict=True)]
        high = [m if d is None or d.high is None else d.high for d, m in zip(found, middle, strict=True)]
        bands[arm] = Band(IOU_THRESHOLDS, middle, low, high)
    return bands


def training_runs(records: Records, comparison: Comparison, arms: list[str]) -> Runs:
    """The curves of these arms' averaged runs, by seed: one point an iteration, the last if twice."""
    averaged = comparison.averaged
    done = averaged.loc[averaged["arm"].isin(arms), ["arm", "seed", "path"]]
    frame = done.merge(records.curves, on="path").sort_values(["arm", "seed", "iteration"], kind="stable")
    frame = frame.drop_duplicates(["arm", "seed", "iteration"], keep="last")
    runs: Runs = {arm: [] for arm in arms}
    for arm, seeds in runs.items():
        for _, rows in frame[frame["arm"] == arm].groupby("seed"):
            seeds.append({column: rows[column].tolist() for column in LOG_COLUMNS})
    return runs


def training_curves(runs: Runs, column: str, smooth: bool = False) -> Curves:
    """`column` over iterations, of each arm: mean over seeds, band from the lowest to the highest seed.

    With `smooth`, each run is smoothed first, by a running mean over SMOOTHING of its points.
    """
    curves = {}
    for arm, seeds in runs.items():
        values: dict[int, list[float]] = {}
        for run in seeds:
            series = run[column]
            series = running_mean(series, max(1, round(SMOOTHING * len(series)))) if smooth else series
            for iteration, value in zip(run["iteration"], series, strict=True):
                values.setdefault(int(iteration), []).append(value)
        curves[arm] = _band(values)
    return curves


def distributions(records: Records, comparison: Comparison, arms: Sequence[str], kind: str, when: str) -> Curves:
    """The share of proposals (kind iou) or targets (kind target) in each bin, by the middle of the bin.

    Mean over seeds, band from the lowest to the highest seed; arms whose runs counted none are left out.
    """
    chosen = records.histograms[(records.histograms["kind"] == kind) & (records.histograms["when"] == when)]
    rows = comparison.averaged[["arm", "seed", "path"]].merge(chosen, on="path")
    curves = {}
    for arm in arms:
        values: dict[int, list[float]] = {}
        for counts in rows.loc[rows["arm"] == arm, "counts"]:
            total = max(1, sum(counts))
            for place, count in enumerate(counts):
                values.setdefault(place, []).append(count / total)
        if values:
            band, width = _band(values), HISTOGRAMS[kind].limit / len(values)
            curves[arm] = Band([width * (place + 0.5) for place in band.x], band.middle, band.low, band.high)
    return curves


def _band(values: dict[int, list[float]]) -> Band:
    known = {iteration: finite(values[iteration]) for iteration in sorted(values)}
    known = {iteration: numbers for iteration, numbers in known.items() if numbers}
    return Band(
        [float(iteration) for iteration in known],
        [mean(numbers) for numbers in known.values()],
        [min(numbers) for numbers in known.values()],
        [max(numbers) for numbers in known.values()],
    )

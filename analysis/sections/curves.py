"""The numbers that the figures draw, from records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Band, Curves
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import defined_values, mean, running_mean
from dynamic_rcnn.metrics.names import IOU_THRESHOLDS
from dynamic_rcnn.run.train_log import HISTOGRAMS, LOG_COLUMNS

BAND = "Line: mean over seeds; band: from the lowest to the highest seed."
SMOOTHING = 0.05  # width of the running mean, as a fraction of a run's logged points

Runs = dict[str, list[dict[str, list[float]]]]  # arm -> its runs by seed: a name of LOG_COLUMNS -> one value per point
Estimate = tuple[float | None, float | None, float | None]  # value, low, high


def ap_by_iou(comparison: Comparison, arms: Iterable[str]) -> Curves:
    """Mean AP at each IoU threshold in percent, with the interval of the mean as its band."""

    def estimate(iou: float, arm: str) -> Estimate:
        mean = comparison.mean(iou, arm)
        return (mean.value, *mean.interval()) if mean else (None, None, None)

    return {arm: _band([estimate(iou, arm) for iou in IOU_THRESHOLDS]) for arm in arms}


def difference_by_iou(comparison: Comparison, arms: Iterable[str]) -> Curves:
    """Arm minus baseline at each IoU threshold in points of AP, with its interval as the band."""

    def estimate(iou: float, arm: str) -> Estimate:
        difference = comparison.difference(iou, arm)
        return (difference.value, *difference.interval()) if difference else (None, None, None)

    return {arm: _band([estimate(iou, arm) for iou in IOU_THRESHOLDS]) for arm in arms if arm in comparison.others}


def _band(estimates: Sequence[Estimate]) -> Band:
    """A curve with its band. If an end of the band is unknown, it is the value; if the value is unknown, it is NaN."""
    values = [math.nan if value is None else value for value, _, _ in estimates]
    low = [value if end is None else end for value, (_, end, _) in zip(values, estimates, strict=True)]
    high = [value if end is None else end for value, (_, _, end) in zip(values, estimates, strict=True)]
    return Band(IOU_THRESHOLDS, values, low, high)


def training_runs(records: RunTable, comparison: Comparison, arms: list[str]) -> Runs:
    """The curves of the averaged runs of `arms`, by seed. The last row of an iteration counts."""
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
    """`column` over iterations for each arm: mean over seeds, band from the lowest to the highest seed.

    With `smooth`, each run is first smoothed by a running mean over SMOOTHING of its points.
    """

    def points(run: dict[str, list[float]]) -> Iterable[tuple[float, float]]:
        series = run[column]
        series = running_mean(series, max(1, round(SMOOTHING * len(series)))) if smooth else series
        return zip(run["iteration"], series, strict=True)

    return {arm: _over_seeds(map(points, seeds)) for arm, seeds in runs.items()}


def distributions(records: RunTable, comparison: Comparison, arms: Sequence[str], kind: str, when: str) -> Curves:
    """The share of proposals (kind iou) or targets (kind target) in each bin, by the middle of the bin.

    Mean over seeds, band from the lowest to the highest seed; arms without histograms are left out.
    """
    chosen = records.histograms[(records.histograms["kind"] == kind) & (records.histograms["when"] == when)]
    rows = comparison.averaged[["arm", "seed", "path"]].merge(chosen, on="path")

    def points(counts: list[int]) -> Iterable[tuple[float, float]]:
        width, total = HISTOGRAMS[kind].limit / len(counts), max(1, sum(counts))
        return [(width * (position + 0.5), count / total) for position, count in enumerate(counts)]

    counted = {arm: rows.loc[rows["arm"] == arm, "counts"] for arm in arms}
    return {arm: _over_seeds(map(points, seeds)) for arm, seeds in counted.items() if len(seeds)}


def _over_seeds(seeds: Iterable[Iterable[tuple[float, float]]]) -> Band:
    """Mean, lowest and highest value at each x, from the (x, value) points of each seed."""
    values: dict[float, list[float]] = {}
    for x, value in (point for points in seeds for point in points):
        values.setdefault(float(x), []).append(value)
    known = {x: numbers for x in sorted(values) if (numbers := defined_values(values[x]))}
    summaries = ([summary(numbers) for numbers in known.values()] for summary in (mean, min, max))
    return Band(list(known), *summaries)


def height(rows: int) -> float:
    """Inches of a figure with so many rows of panels."""
    return 0.4 + 3.0 * rows

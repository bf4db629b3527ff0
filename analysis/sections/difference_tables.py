"""Tables of differences between the arms of a grid, and of the noise between seeds. In points of AP."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import Number, Row, Table, TableCell, table
from analysis.rendering.text import NOTHING
from analysis.sections.tables import arm_title
from analysis.stats.comparison import Comparison, Metric
from analysis.stats.seeds import Difference
from dynamic_rcnn.metrics.names import AP_METRICS, IOU_THRESHOLDS, MASK_METRICS
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

SAME_RUNS = "same runs"


def difference_table(comparison: Comparison) -> Table:
    """Arm minus baseline with its t interval, bold if significant."""
    return _difference_table(comparison, AP_METRICS, AP_METRICS)


def threshold_difference_table(comparison: Comparison) -> Table:
    """As `difference_table`, at each IoU threshold."""
    return _difference_table(comparison, IOU_THRESHOLDS, [f"{iou:.2f}" for iou in IOU_THRESHOLDS])


def mask_difference_table(comparison: Comparison) -> Table:
    """As `difference_table`, in AP of masks, with the noise between seeds."""
    return _difference_table(comparison, MASK_METRICS, MASK_METRICS, [_noise_row(comparison, MASK_METRICS)])


def _difference_table(
    comparison: Comparison, metrics: Sequence[Metric], titles: Sequence[str], more: Sequence[Row] = ()
) -> Table:
    grid = comparison.grid
    rows: list[Row] = []
    for arm in comparison.others:
        against = f", minus {grid.baseline_of(arm)}" if grid.baselines else ""
        cells = [_difference_cell(comparison, metric, arm) for metric in metrics]
        rows.append([arm_title(grid, arm) + against, *cells])
    return table(["arm minus baseline", *titles], [*rows, *more])


def contrast_table(comparison: Comparison) -> Table:
    """One row per contrast of the grid: the first arm minus the second, as in `difference_table`."""
    rows: list[Row] = []
    for pair in comparison.grid.contrasts:
        runs = comparison.paths(*pair)
        cells = [difference_cell(comparison.contrast(metric, pair), runs) for metric in AP_METRICS]
        rows.append([" minus ".join(pair), *cells])
    return table(["contrast", *AP_METRICS], rows)


def noise_table(comparison: Comparison) -> Table:
    """The smallest detectable difference, the sd pooled over the arms, and the sd of each arm's paired differences."""
    rows = [
        *_detectable_rows(comparison),
        _noise_row(comparison, AP_METRICS),
        *(_paired_row(comparison, arm) for arm in comparison.others),
    ]
    return table(["noise between seeds", *AP_METRICS], rows)


def _detectable_rows(comparison: Comparison) -> list[Row]:
    """A row for the arm with the fewest seeds; none if the noise is not known."""
    known = [arm for arm in comparison.others if comparison.detectable("AP", arm) is not None]
    if not known:
        return []
    fewest = min(known, key=lambda arm: comparison.summary("AP", arm).n)
    counts = [comparison.summary("AP", arm).n for arm in (fewest, comparison.grid.baseline_of(fewest))]
    runs = comparison.paths(*comparison.grid.arms)
    values = [comparison.detectable(metric, fewest) for metric in AP_METRICS]
    title = f"smallest detectable difference with {counts[0]} and {counts[1]} seeds"
    return [[title, *(TableCell(Number(value, "detectable"), runs) for value in values)]]


def _noise_row(comparison: Comparison, metrics: Sequence[str]) -> Row:
    runs = comparison.paths(*comparison.grid.arms)
    noise = [comparison.noise(metric) for metric in metrics]
    cells = [Number(each.sd, "sd", more={"df": each.df}, note=f" ({each.df})") for each in noise]
    return ["pooled sd of the arms (df)", *(TableCell(cell, runs) for cell in cells)]


def _paired_row(comparison: Comparison, arm: str) -> Row:
    differences = [comparison.difference(metric, arm) for metric in AP_METRICS]
    runs = comparison.paths(arm, comparison.grid.baseline_of(arm))
    title = f"sd of the paired differences, {arm} ({plural('pair', differences[0].pairs if differences[0] else 0)})"
    return [title, *(TableCell(Number(each.paired_sd if each else None, "sd"), runs) for each in differences)]


def whose_baseline(grid: Manifest) -> str:
    return "each arm's own baseline" if grid.baselines else "the baseline"


def _difference_cell(comparison: Comparison, metric: Metric, arm: str) -> TableCell:
    runs = comparison.paths(arm, comparison.grid.baseline_of(arm))
    if comparison.same_runs(arm):
        return TableCell(SAME_RUNS, runs)
    return difference_cell(comparison.difference(metric, arm), runs)


def difference_cell(difference: Difference | None, runs: list[str]) -> TableCell:
    if difference is None:
        return TableCell(NOTHING)
    shown = Number(
        *(difference.value, "difference"),
        is_signed=True,
        is_bold=bool(difference.is_significant),
        low=difference.low,
        high=difference.high,
        more={"p_holm": difference.deciding_p},
    )
    return TableCell(shown, runs)

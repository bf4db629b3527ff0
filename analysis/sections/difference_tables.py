"""Tables of differences between the arms of a grid, and of the noise between seeds. In points of AP."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.reading.manifest import Grid
from analysis.rendering.markup import NOTHING, escape, interval, number, one_of, signed
from analysis.rendering.model import Cell, Row, Table, numbers, table
from analysis.sections.tables import arm_title
from analysis.stats.comparison import Comparison, Metric
from analysis.stats.seeds import Difference
from dynamic_rcnn.metrics.names import AP_METRICS, IOU_THRESHOLDS, MASK_METRICS

SAME_RUNS = "the same runs"


def difference_table(comparison: Comparison) -> Table:
    """Arm minus baseline with its t interval, bold where they are told apart."""
    rows: list[Row] = [
        [_against(comparison.grid, arm), *(_difference_cell(comparison, m, arm) for m in AP_METRICS)]
        for arm in comparison.others
    ]
    return table(["arm minus baseline", *AP_METRICS], rows)


def threshold_difference_table(comparison: Comparison) -> Table:
    """Arm minus baseline at each IoU threshold, as in `difference_table`."""
    rows: list[Row] = [
        [_against(comparison.grid, arm), *(_difference_cell(comparison, iou, arm) for iou in IOU_THRESHOLDS)]
        for arm in comparison.others
    ]
    return table(["arm minus baseline", *(f"{iou:.2f}" for iou in IOU_THRESHOLDS)], rows)


def mask_difference_table(comparison: Comparison) -> Table:
    """Arm minus baseline in AP of masks, as in `difference_table`."""
    rows: list[Row] = [
        [_against(comparison.grid, arm), *(_difference_cell(comparison, metric, arm) for metric in MASK_METRICS)]
        for arm in comparison.others
    ]
    rows.append(_noise_row(comparison, MASK_METRICS))
    return table(["arm minus baseline", *MASK_METRICS], rows)


def contrast_table(comparison: Comparison) -> Table:
    """A row a contrast of the grid: the first arm minus the second, with its t interval, bold where told apart."""
    rows: list[Row] = []
    for pair in comparison.grid.contrasts:
        runs = comparison.paths(*pair)
        cells = [_shown_difference(comparison.contrast(metric, pair), runs) for metric in AP_METRICS]
        rows.append([" minus ".join(map(escape, pair)), *cells])
    return table(["contrast", *AP_METRICS], rows)


def noise_table(comparison: Comparison) -> Table:
    """The noise between seeds: the smallest difference that they show, the pooled sd, and the sd of each difference."""
    rows: list[Row] = []
    known = [arm for arm in comparison.others if comparison.detectable("AP", arm) is not None]
    fewest = min(known, key=lambda arm: comparison.summary("AP", arm).n, default=None)
    if fewest is not None:
        counts = " and ".join(
            str(comparison.summary("AP", arm).n) for arm in (fewest, comparison.grid.baseline_of(fewest))
        )
        runs = comparison.paths(*comparison.grid.arms)
        least = [comparison.detectable(metric, fewest) for metric in AP_METRICS]
        cells = [Cell(number(value), numbers(detectable=value), runs) for value in least]
        rows.append([f"smallest difference that {counts} seeds show", *cells])
    rows.append(_noise_row(comparison, AP_METRICS))
    rows += [_paired_row(comparison, arm) for arm in comparison.others]
    return table(["noise between seeds", *AP_METRICS], rows)


def _noise_row(comparison: Comparison, metrics: Sequence[str]) -> Row:
    runs = comparison.paths(*comparison.grid.arms)
    noise = [comparison.noise(metric) for metric in metrics]
    cells = [Cell(f"{number(each.sd)} ({each.df})", numbers(sd=each.sd, df=each.df), runs) for each in noise]
    return ["pooled sd of the arms (df)", *cells]


def _paired_row(comparison: Comparison, arm: str) -> Row:
    found = [comparison.difference(metric, arm) for metric in AP_METRICS]
    sds = [difference.paired_sd if difference else None for difference in found]
    runs = comparison.paths(arm, comparison.grid.baseline_of(arm))
    label = f"sd of the difference by seed, {escape(arm)} ({one_of('pair', found[0].pairs if found[0] else 0)})"
    return [label, *(Cell(number(sd), numbers(sd=sd), runs) for sd in sds)]


def whose_baseline(grid: Grid) -> str:
    return "each arm's own baseline" if grid.baselines else "the baseline"


def _against(grid: Grid, arm: str) -> str:
    """The arm's title, and what it stands against where the arms do not all have one baseline."""
    return arm_title(grid, arm) + (f", minus {escape(grid.baseline_of(arm))}" if grid.baselines else "")


def _difference_cell(comparison: Comparison, metric: Metric, arm: str) -> Cell:
    runs = comparison.paths(arm, comparison.grid.baseline_of(arm))
    if comparison.same_runs(arm):
        return Cell(SAME_RUNS, runs=runs)
    return _shown_difference(comparison.difference(metric, arm), runs)


def _shown_difference(found: Difference | None, runs: list[str]) -> Cell:
    if found is None:
        return Cell(NOTHING)
    value, limits = signed(found.value), interval(found.low, found.high)
    value = f"**{value}**" if found.told_apart else value
    known = numbers(difference=found.value, low=found.low, high=found.high, p_holm=found.deciding_p)
    return Cell(f"{value}<br>{limits}" if limits else value, known, runs)

"""The tables of a grid's section about differences in points of AP: effects, contrasts, equivalence, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from analysis.rendering.model import Number, Row, Table, TableCell, table
from analysis.rendering.text import NOTHING
from analysis.sections.tables import SAME_RUNS, arm_title, titles
from analysis.stats.comparison import PRIMARY_FIRST, Comparison
from analysis.stats.estimate import Estimate
from analysis.stats.image_noise import Metric
from analysis.stats.seeds import TOST_CONFIDENCE, TOST_LEVEL, PooledSd

Effects = Callable[[Metric], Mapping[str, Estimate | None]]


def difference_table(comparison: Comparison, metrics: Sequence[Metric], more: Iterable[Row] = ()) -> Table:
    """Arm minus baseline with its interval, bold if significant; then the rows `more`."""
    grid = comparison.grid
    rows: list[Row] = []
    for arm in comparison.others:
        baseline = grid.baseline_of(arm)
        runs, against = comparison.paths(arm, baseline), f", minus {baseline}" if grid.baselines else ""
        if comparison.same_runs(arm):
            cells = [TableCell(SAME_RUNS, runs) for _ in metrics]
        else:
            cells = [estimate_cell(comparison.difference(metric, arm), runs) for metric in metrics]
        rows.append([arm_title(grid, arm) + against, *cells])
    return table(["arm minus baseline", *titles(metrics)], [*rows, *more])


def contrast_table(comparison: Comparison) -> Table:
    """One row per contrast of the grid: the first arm minus the second, as in `difference_table`."""
    rows: list[Row] = []
    for pair in comparison.grid.contrasts:
        runs = comparison.paths(*pair)
        cells = [estimate_cell(comparison.contrast(metric, pair), runs) for metric in PRIMARY_FIRST]
        rows.append([" minus ".join(pair), *cells])
    return table(["contrast", *PRIMARY_FIRST], rows)


def effect_table(comparison: Comparison, title: str, effects: Effects, is_tested: bool = True) -> Table:
    """One row per effect of the grid's factors. is_tested: whether significant ones are bold."""
    grid = comparison.grid
    runs = comparison.paths(grid.baseline, *(arm for arms in grid.factorial.values() for arm in arms))
    found = {metric: effects(metric) for metric in PRIMARY_FIRST}
    names = found[PRIMARY_FIRST[0]]

    def cell(estimate: Estimate | None) -> TableCell:
        return estimate_cell(estimate, runs, is_tested)

    rows: list[Row] = [[name, *(cell(found[metric][name]) for metric in found)] for name in names]
    return table([title, *PRIMARY_FIRST], rows)


def equivalence_table(comparison: Comparison) -> Table:
    """One row per claim of equivalence and metric: the two arms that are farthest from it, and the verdict."""
    rows: list[Row] = []
    for claim in comparison.grid.equivalence:
        for metric, margin in claim.margins.items():
            test, what = comparison.equivalence(claim, metric), [", ".join(claim.arms), metric]
            if test is None:
                rows.append([*what, NOTHING, f"{margin:g}", NOTHING, NOTHING, NOTHING])
                continue
            low, high = test.difference.interval(TOST_CONFIDENCE)
            shown = Number(test.difference.value, "difference", is_signed=True, low=low, high=high)
            cell = TableCell(shown, comparison.paths(*claim.arms))
            rows.append([*what, " minus ".join(test.pair), f"{margin:g}", cell, Number(test.p, "p", 3), test.text])
    difference = f"difference, {TOST_LEVEL} interval"
    header = ["arms", "metric", "farthest pair", "margin", difference, "p of equivalence", "verdict"]
    return table(header, rows, text_columns=3)


def estimate_cell(estimate: Estimate | None, runs: list[str], is_tested: bool = True) -> TableCell:
    """A difference with its interval, bold if it is tested and significant."""
    if estimate is None:
        return TableCell(NOTHING)
    shown = Number(
        *(estimate.value, "difference"),
        is_signed=True,
        is_bold=is_tested and bool(estimate.is_significant),
        low=estimate.low,
        high=estimate.high,
        more={"p_holm": estimate.deciding_p} if is_tested else {},
    )
    return TableCell(shown, runs)


def noise_table(comparison: Comparison) -> Table:
    """The smallest detectable difference, the sd between seeds, and the standard error over images."""
    spreads = {arm: found.spread for arm in comparison.others if (found := comparison.difference("AP", arm))}
    within = [comparison.sd_within_arms(metric) for metric in PRIMARY_FIRST]
    rows = [_sd_row(comparison, "sd between seeds within an arm (df)", within), residual_row(comparison, PRIMARY_FIRST)]
    if not spreads:
        return table(["noise", *PRIMARY_FIRST], rows)
    arm = max(spreads, key=lambda name: spreads[name])
    differences = [comparison.difference(metric, arm) for metric in PRIMARY_FIRST]
    counts = [comparison.summary("AP", each).n for each in (arm, comparison.grid.baseline_of(arm))]
    title = f"smallest detectable difference with {counts[0]} and {counts[1]} seeds"
    rows.insert(0, _noise_row(comparison, title, [each.detectable if each else None for each in differences]))
    if comparison.has_images("AP"):
        means = [comparison.mean(metric, arm) for metric in PRIMARY_FIRST]
        minus = f"{arm} minus {comparison.grid.baseline_of(arm)}"
        for name, estimates in ((f"mean of {arm}", means), (minus, differences)):
            errors = [math.sqrt(each.images) if each and each.images is not None else None for each in estimates]
            rows.append(_noise_row(comparison, f"standard error over images, {name}", errors))
    return table(["noise", *PRIMARY_FIRST], rows)


def residual_row(comparison: Comparison, metrics: Sequence[Metric]) -> Row:
    """The sd that differences have, with its degrees of freedom."""
    noise = [comparison.sd_within_blocks(metric) for metric in metrics]
    return _sd_row(comparison, "sd between seeds within a block (df)", noise)


def _sd_row(comparison: Comparison, title: str, noise: Sequence[PooledSd]) -> Row:
    runs = comparison.paths(*comparison.grid.arms)
    values = [Number(each.sd, "sd", more={"df": each.df}, note=f" ({each.df:.3g})") for each in noise]
    return [title, *(TableCell(value, runs) for value in values)]


def _noise_row(comparison: Comparison, title: str, values: Sequence[float | None]) -> Row:
    runs = comparison.paths(*comparison.grid.arms)
    return [title, *(TableCell(Number(value, "noise"), runs) for value in values)]

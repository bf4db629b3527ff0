"""The figures of a grid's section: their panels and captions."""

from __future__ import annotations

from dataclasses import replace

from analysis.reading.run_table import RunTable
from analysis.rendering.model import INTERVALS, Figure, Panel
from analysis.sections import curves, training_figures
from analysis.sections.forest import forest_figure
from analysis.sections.interaction import interaction_figure
from analysis.sections.tables import whose_baseline
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.run.comparisons import factorial_arms

MAX_ARMS = 8  # a figure has as many colours


def figures(records: RunTable, comparison: Comparison) -> list[Figure]:
    """The figures of the section; none while no run has finished."""
    if not comparison.n_done:
        return []
    arms, what = shown_arms(comparison), shown_text(comparison)
    runs = curves.training_runs(records, comparison, arms)
    found: list[Figure | None] = [
        forest_figure(comparison, arms),
        interaction_figure(comparison, arms),
        _ap_figure(comparison, arms, comparison.grid.key, what),
    ]
    if any(runs.values()):
        found += [
            training_figures.state_figure(runs, comparison, what),
            training_figures.distribution_figure(records, comparison, arms, what),
            training_figures.loss_figure(runs, comparison, what),
        ]
    return [figure for figure in found if figure is not None]


def shown_arms(comparison: Comparison) -> list[str]:
    """The arms in the figures: all, or of many the baseline and those that the grid's factors and contrasts name."""
    grid = comparison.grid
    if len(grid.arms) <= MAX_ARMS:
        return list(grid.arms)
    named = _named_arms(comparison)[:MAX_ARMS] or list(grid.arms)[:MAX_ARMS]
    return [arm for arm in grid.arms if arm in named]


def _named_arms(comparison: Comparison) -> list[str]:
    """In order of importance; none if the grid declares no factors and contrasts."""
    grid = comparison.grid
    factors = factorial_arms(grid.factorial) if grid.factorial else ()
    named = [*factors, *(arm for pair in grid.contrasts for arm in pair)]
    return list(dict.fromkeys([grid.baseline, *named])) if named else []


def shown_text(comparison: Comparison) -> str:
    """The data set, the seeds and which arms are shown, for captions."""
    arms, shown = comparison.grid.arms, shown_arms(comparison)
    others = [arm for arm in arms if arm not in shown]
    left_out = f"; {len(shown)} of {len(arms)} arms, without {', '.join(others)}" if others else ""
    return f"{comparison.grid.dataset}, {comparison.seeds_text()}{left_out}"


def _ap_figure(comparison: Comparison, arms: list[str], key: str, what: str) -> Figure:
    grid = comparison.grid
    against = "its baseline" if grid.baselines else grid.baseline
    axis, ticks = "IoU threshold", (0.5, 0.6, 0.7, 0.8, 0.9)
    differences = curves.difference_by_iou(comparison, arms)
    left = Panel("AP", "AP", axis, "AP (%)", curves.ap_by_iou(comparison, arms), INTERVALS, ticks=ticks)
    right = Panel("difference", f"arm minus {against}", axis, "difference in AP (points)", differences, INTERVALS)
    right = replace(right, dodge=0.008, starts_at_zero=False, ticks=ticks, marks_zero=True)
    caption = (
        f"{what}. Left: mean over seeds. Right: difference from {whose_baseline(grid)} in points of AP, with the arms "
        f"side by side at each threshold. Error bars: {LEVEL} intervals as in the tables, not corrected for multiple "
        "comparisons; none with one seed."
    )
    alt = "Two plots over the IoU threshold: AP of each arm, and its difference from the baseline."
    title, panels = "AP against the IoU threshold", [left, right]
    return Figure(f"{key}-ap-by-iou.svg", title, caption, alt, arms, panels, 2, 4.6)

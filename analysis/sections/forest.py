"""The forest plot of a grid: all differences that it compares, in the primary metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from analysis.rendering.model import ROWS, Band, Figure, Panel
from analysis.rendering.text import NOTHING, signed
from analysis.sections.tables import whose_baseline
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.estimate import Estimate
from analysis.stats.image_noise import Metric
from analysis.stats.seeds import ALPHA, LEVEL

ROW, FRAME = 0.24, 0.95  # height in inches of a row, and of what is above and below the rows

Rows = Mapping[str, Estimate | None]  # label -> difference


def forest_figure(comparison: Comparison, arms: Sequence[str]) -> Figure | None:
    """The differences from the baseline, the declared contrasts and the effects of the factors; None without any.

    Args:
        comparison: of the grid.
        arms: those that have a colour.
    """
    groups = {metric: _groups(comparison, metric) for metric in PRIMARY}
    if not any(each for rows in groups[PRIMARY[0]].values() for each in rows.values()):
        return None
    panels = [_panel(metric, each) for metric, each in groups.items()]
    rows = sum(1 + len(each) for each in groups[PRIMARY[0]].values())
    caption = (
        f"{comparison.grid.dataset}, {comparison.seeds_text()}. Differences from {whose_baseline(comparison.grid)}, "
        f"contrasts and effects, in points with {LEVEL} intervals, as in the tables. Filled: significant, p < {ALPHA} "
        "after Holm's correction over the group in that panel; hollow: not. Right of 0 is better."
    )
    title = f"Differences in {' and '.join(PRIMARY)}"
    alt = f"Forest plot. {' '.join(map(_described, panels))}"
    name = f"{comparison.grid.key}-differences.svg"
    return Figure(name, title, caption, alt, arms, panels, len(panels), FRAME + ROW * rows)


def _groups(comparison: Comparison, metric: Metric) -> dict[str, Rows]:
    """Heading -> its rows; groups without rows are left out."""
    grid = comparison.grid
    minus = {arm: f"{arm} minus {grid.baseline_of(arm)}" if grid.baselines else arm for arm in comparison.others}
    groups: dict[str, Rows] = {
        "arm minus baseline": {minus[arm]: comparison.difference(metric, arm) for arm in comparison.others},
        "contrasts": {" minus ".join(pair): comparison.contrast(metric, pair) for pair in grid.contrasts},
        "factors": comparison.effects(metric) if comparison.shows_factorial else {},
    }
    return {heading: rows for heading, rows in groups.items() if rows}


def _panel(metric: str, groups: Mapping[str, Rows]) -> Panel:
    rows = {label: each for group in groups.values() for label, each in group.items()}
    headings = {next(iter(group)): heading for heading, group in groups.items()}
    hollow = [label for label, each in rows.items() if each is None or not each.is_significant]
    curves = {label: _band(each) for label, each in rows.items()}
    return Panel(
        *(metric, metric, f"difference in {metric} (points)", "", curves, ROWS),
        starts_at_zero=False,
        headings=headings,
        hollow=hollow,
    )


def _band(estimate: Estimate | None) -> Band:
    """The point at x = 0; without noise the interval is the value, without value it is NaN."""
    if estimate is None:
        return Band([0.0], [math.nan], [math.nan], [math.nan])
    low, high = estimate.interval()
    value = estimate.value
    return Band([0.0], [value], [value if low is None else low], [value if high is None else high])


def _described(panel: Panel) -> str:
    values = {label: band.middle[0] for label, band in panel.curves.items()}
    shown = (f"{label} {NOTHING if math.isnan(value) else signed(value)}" for label, value in values.items())
    return f"{panel.name}: {', '.join(shown)}."

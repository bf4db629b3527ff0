"""The interaction plot of a grid's two factors."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import INTERVALS, Band, Figure, Panel
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.run.comparisons import factorial_arms

WITHOUT_INTERACTION = "both, if the effects added up"


def interaction_figure(comparison: Comparison, arms: Sequence[str]) -> Figure | None:
    """The means of the four arms by factor; None without a factorial, or if an arm has no value.

    Args:
        comparison: of the grid.
        arms: those that have a colour.
    """
    grid = comparison.grid
    if not grid.factorial:
        return None
    first, second = grid.factorial
    panels = [panel for metric in PRIMARY if (panel := _panel(comparison, metric))]
    if len(panels) < len(PRIMARY):
        return None
    caption = (
        f"{grid.dataset}, {comparison.seeds_text()}. Means over seeds with {LEVEL} intervals as in the tables, without "
        f"and with {first} and {second}. Parallel lines: no interaction, the effects add up. The dotted line leads to "
        f"where the arm with both would be then. Runs of one seed are compared, so differences between arms are known "
        "better than these intervals show."
    )
    title = f"{first} and {second}: do their effects add up?"
    alt = f"Interaction plot of {first} and {second}. {' '.join(map(_described, panels))}"
    return Figure(f"{grid.key}-interaction.svg", title, caption, alt, arms, panels, len(panels), 3.8)


def _panel(comparison: Comparison, metric: str) -> Panel | None:
    grid = comparison.grid
    first, second = grid.factorial
    one, other, both = factorial_arms(grid.factorial)
    places = {grid.baseline: 0.0, one: 1.0, other: 0.0, both: 1.0}
    means = {arm: comparison.mean(metric, arm) for arm in places}
    curves: dict[str, Band] = {}
    values: dict[str, float] = {}
    for arm, mean in means.items():
        if mean is None:
            return None
        low, high = mean.interval()
        values[arm] = mean.value
        ends = [mean.value if end is None else end for end in (low, high)]
        curves[arm] = Band([places[arm]], [mean.value], ends[:1], ends[1:])
    added = values[one] + values[other] - values[grid.baseline]
    expected = [values[other], added]
    return Panel(
        *(metric, metric, "", f"{metric} (%)", curves, INTERVALS),
        dodge=0.012,
        starts_at_zero=False,
        ticks=(0, 1),
        labels=(f"without {first}", f"with {first}"),
        reference={WITHOUT_INTERACTION: Band([0.0, 1.0], expected, expected, expected)},
        joined={f"without {second}": (grid.baseline, one), f"with {second}": (other, both)},
    )


def _described(panel: Panel) -> str:
    (expected,) = panel.reference.values()
    shown = (f"{arm} {band.middle[0]:.2f}" for arm, band in panel.curves.items())
    return f"{panel.name}: {', '.join(shown)}; {WITHOUT_INTERACTION}: {expected.middle[1]:.2f}."

"""The interaction plot of a grid's two factors."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import INTERVALS, Band, Figure, Panel
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.run.comparisons import factorial_arms

WITHOUT_INTERACTION = "both, if the effects added up"


def interaction_figure(comparison: Comparison, arms: Sequence[str]) -> Figure | None:
    """The four arms by factor; None if the grid shows no factorial, or if an arm has no value.

    Each arm is at the mean of the baseline plus its difference from the baseline as in the tables. The means of the
    arms would show other effects than the tables if the arms have different seeds.

    Args:
        comparison: of the grid.
        arms: those that have a colour.
    """
    grid = comparison.grid
    if not comparison.shows_factorial:
        return None
    first, second = grid.factorial
    panels = [panel for metric in PRIMARY if (panel := _panel(comparison, metric))]
    if len(panels) < len(PRIMARY):
        return None
    caption = (
        f"{grid.dataset}, {comparison.seeds_text()}. The baseline is at its mean over seeds, the other arms at this "
        f"mean plus their difference from the baseline, estimated by least squares as in the tables, with its {LEVEL} "
        f"interval. Left without and right with {first}; dashed without and solid with {second}. Parallel lines: no "
        "interaction, the effects add up. The dotted line leads to where the arm with both would be then; the distance "
        "between the two is the interaction in the table."
    )
    title = f"{first} and {second}: do their effects add up?"
    alt = f"Interaction plot of {first} and {second}. {' '.join(map(_described, panels))}"
    return Figure(f"{grid.key}-interaction.svg", title, caption, alt, arms, panels, len(panels), 3.8)


def _panel(comparison: Comparison, metric: str) -> Panel | None:
    grid = comparison.grid
    first, second = grid.factorial
    one, other, both = factorial_arms(grid.factorial)
    baseline = comparison.mean(metric, grid.baseline)
    if baseline is None:
        return None
    curves = {grid.baseline: Band([0.0], *[[baseline.value]] * 3)}
    for arm, place in ((one, 1.0), (other, 0.0), (both, 1.0)):
        difference = comparison.estimate(metric, {arm: 1.0, grid.baseline: -1.0})
        if difference is None:
            return None
        ends = [difference.value if end is None else end for end in difference.interval()]
        curves[arm] = Band([place], *([baseline.value + each] for each in (difference.value, *ends)))
    without = curves[other].middle[0]
    expected = [without, curves[one].middle[0] + without - baseline.value]
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

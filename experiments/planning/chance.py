"""The chance that a grid on COCO decides the printed numbers, by the number of seeds that it plans.

The seeds are fixed before the runs, so the plan is the place to choose them. The chances are computed by
`analysis.stats.operating_characteristics`, which the launcher does not import; a test compares them.
"""

from __future__ import annotations

from collections import Counter

from dynamic_rcnn.run.spec import TRAIN
from dynamic_rcnn.wording import plural
from experiments.config.grid import Grid

DATASET = "coco"
SOURCE = "docs/operating-characteristics.md"
# fmt: off
CHANCES = {  # what is printed, and the truth -> percent with 1, 2, ... seeds per arm
    "value, true": (87.1, 99.6, 99.9, 99.9, 99.9, 100.0, 100.0, 100.0, 100.0, 100.0),
    "value, 1.0 AP lower": (99.9, 99.9, 99.9, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0),
    "difference, true": (41.3, 88.0, 97.9, 99.6, 99.9, 99.9, 99.9, 99.9, 99.9, 99.9),
    "difference, 1.0 AP lower": (86.2, 98.3, 99.7, 99.9, 99.9, 99.9, 99.9, 99.9, 99.9, 99.9),
}
# fmt: on
MOST_SEEDS = len(CHANCES["value, true"])


def chance_lines(grid: Grid) -> list[str]:
    """Lines on the chance of a right verdict; [] for a grid that decides no printed number."""
    if grid.dataset != DATASET or grid.task != TRAIN or grid.paper is None:
        return []
    if grid.changed or grid.base != grid.paper.base:
        return ["verdicts: none on the printed numbers, because this is not the published setting"]
    counts = Counter(spec.arm for spec in grid.runs)
    seeds = min(counts.values())
    lines = [
        f"verdicts with {plural('seed', seeds)} per arm ({SOURCE}): a printed AP is decided with a chance of "
        + _chances("value", seeds)
    ]
    if len(counts) > 1:
        lines[0] += "; a printed difference of two arms, of " + _chances("difference", seeds)
    return lines


def _chances(what: str, seeds: int) -> str:
    at = min(seeds, MOST_SEEDS) - 1
    return f"{CHANCES[f'{what}, true'][at]}% if it is true, {CHANCES[f'{what}, 1.0 AP lower'][at]}% if 1.0 AP lower"

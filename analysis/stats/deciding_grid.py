"""Chooses, of the grids that share arms, the one that shows a factorial or a comparison with the paper.

Every grid uses all finished runs of its arms, so these grids have the same seeds of the arms they share. They differ in
the other arms, from which the noise is pooled and for whose number a test is corrected. The grid with the fewest arms
shows the result; the others link to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dynamic_rcnn.run.comparisons import factorial_arms
from dynamic_rcnn.run.manifest import Manifest


def factorial_grid(grids: Iterable[Manifest], grid: Manifest) -> Manifest:
    """The grid that has the tables of the factorial of `grid`, which must have one."""

    def declares(other: Manifest) -> bool:
        return (other.factorial, other.baseline) == (grid.factorial, grid.baseline)

    return _deciding(grids, grid, [grid.baseline, *factorial_arms(grid.factorial)], declares)


def paper_grid(grids: Iterable[Manifest], grid: Manifest, arm: str) -> Manifest:
    """The grid that compares the difference of `arm` from its baseline with the one that the paper printed."""
    arms = [arm, grid.baseline_of(arm)]

    def declares(other: Manifest) -> bool:
        is_same_pair = arm in other.arms and other.baseline_of(arm) == arms[1]
        return is_same_pair and _printed(other, arms) == _printed(grid, arms)

    return _deciding(grids, grid, arms, declares)


def _deciding(
    grids: Iterable[Manifest], grid: Manifest, arms: Sequence[str], declares: Callable[[Manifest], bool]
) -> Manifest:
    """Of `grid` and the grids of its data set that declare the same about the same arms, the one with the fewest arms.

    Of several with as few arms, the one whose key is first.
    """
    settings = _settings(grid, arms)
    others = [each for each in grids if each.key != grid.key and each.dataset == grid.dataset and declares(each)]
    same = [each for each in others if settings is not None and _settings(each, arms) == settings]
    return min([grid, *same], key=lambda each: (len(each.arms), each.key))


def _printed(grid: Manifest, arms: Sequence[str]) -> list[dict[str, float] | None]:
    """The rows of the paper of these arms."""
    return [grid.paper.rows.get(arm) if grid.paper else None for arm in arms]


def _settings(grid: Manifest, arms: Sequence[str]) -> list[set[str | None]] | None:
    """The settings of each arm's runs; None if one is not known, as in older manifests, or if an arm has no runs."""
    found = [{cell.setting for cell in grid.cells if cell.arm == arm} for arm in arms]
    return found if all(found) and not any(None in each for each in found) else None

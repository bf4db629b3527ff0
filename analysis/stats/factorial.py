"""The effects of two factors, each with and without the other one, as contrasts of four arms."""

from __future__ import annotations

from dynamic_rcnn.run.comparisons import factorial_arms
from dynamic_rcnn.run.manifest import Manifest

Coefficients = dict[str, dict[str, float]]  # name -> arm -> coefficient


def main_effects(grid: Manifest) -> Coefficients:
    """The effect of each factor, mean over both levels of the other one, and their interaction.

    The interaction is the effect of one factor with the other one minus its effect without. Empty without a factorial.
    """
    if not grid.factorial:
        return {}
    (first, second), base = grid.factorial, grid.baseline
    one, other, both = factorial_arms(grid.factorial)
    return {
        f"{first}, mean over {second} off and on": {one: 0.5, base: -0.5, both: 0.5, other: -0.5},
        f"{second}, mean over {first} off and on": {other: 0.5, base: -0.5, both: 0.5, one: -0.5},
        f"interaction of {first} and {second}": {both: 1.0, one: -1.0, other: -1.0, base: 1.0},
    }


def simple_effects(grid: Manifest) -> Coefficients:
    """The effect of each factor without the other one, and given it. Empty without a factorial."""
    if not grid.factorial:
        return {}
    (first, second), base = grid.factorial, grid.baseline
    one, other, both = factorial_arms(grid.factorial)
    return {
        f"{first} without {second}": {one: 1.0, base: -1.0},
        f"{first} given {second}": {both: 1.0, other: -1.0},
        f"{second} without {first}": {other: 1.0, base: -1.0},
        f"{second} given {first}": {both: 1.0, one: -1.0},
    }

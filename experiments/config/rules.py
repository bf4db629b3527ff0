"""The types of single values in the schema of a configuration, each with its rule as a message for users."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

Fault = tuple[tuple[str | int, ...], Any, str]  # place, value, rule


def _is_integer(value: Any, least: int, most: float = inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def value_rule(rule: str, holds: Callable[[Any], object]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(rule)
        return value

    return BeforeValidator(check)


def _at_least(least: int) -> BeforeValidator:
    return value_rule(f"must be an integer of at least {least}", lambda value: _is_integer(value, least))


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Count = Annotated[int, _at_least(1)]
CountFromZero = Annotated[int, _at_least(0)]
Rounds = Annotated[int, _at_least(2)]
Fraction = Annotated[
    float, value_rule("must be above 0 and at most 1", lambda value: _is_positive(value) and value <= 1)
]
Positive = Annotated[float, value_rule("must be a positive number", _is_positive)]
Folder = Annotated[str, value_rule("must be a folder", lambda value: isinstance(value, str) and value)]
RunName = Annotated[str, value_rule("must be a run such as both/seed1", lambda value: isinstance(value, str) and value)]
Seed = Annotated[
    int, value_rule("must be an integer from 0 to 2147483647", lambda value: _is_integer(value, 0, 2**31 - 1))
]
Seeds = Annotated[
    list[Seed],
    AfterValidator(_distinct),
    value_rule(
        "must be a list with at least one seed, e.g. seeds=[0,1,2]", lambda seeds: isinstance(seeds, list) and seeds
    ),
]

Cost = Annotated[
    Any,
    value_rule(
        "must be seconds per iteration, a positive number, or map arms to theirs",
        lambda cost: all(map(_is_positive, cost.values())) if isinstance(cost, dict) else _is_positive(cost),
    ),
]

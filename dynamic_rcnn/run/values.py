"""The types of single values in files and configurations, each with its rule as a message."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def value_rule(rule: str, holds: Callable[[Any], object]) -> BeforeValidator:
    """A check of a value before its type is checked. rule: what the message says, such as "must be a folder"."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(rule)
        return value

    return BeforeValidator(check)


def is_integer(value: Any, least: int, most: float = inf) -> bool:
    """Whether `value` is an integer from `least` to `most`; true and false are not integers."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_positive(value: Any) -> bool:
    """Whether `value` is a finite number above 0; true is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def at_least(least: int) -> BeforeValidator:
    return value_rule(f"must be an integer of at least {least}", lambda value: is_integer(value, least))


def between(least: int, most: int) -> BeforeValidator:
    return value_rule(f"must be an integer from {least} to {most}", lambda value: is_integer(value, least, most))


Count = Annotated[int, at_least(1)]
CountFromZero = Annotated[int, at_least(0)]
Positive = Annotated[float, value_rule("must be a positive number", is_positive)]
PositiveFraction = Annotated[
    float, value_rule("must be above 0 and at most 1", lambda value: is_positive(value) and value <= 1)
]
Fraction = Annotated[float, Field(ge=0, le=1)]
SignedFraction = Annotated[float, Field(ge=-1, le=1)]

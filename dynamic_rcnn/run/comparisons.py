"""What a grid declares about comparisons of its arms, besides each with its baseline. In grid files and manifests.

`analysis.stats` computes them. They are declared before the runs, so that results cannot choose them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from dynamic_rcnn.run.schema import Fault, Schema
from dynamic_rcnn.run.values import Positive

_PAIR_RULE = "must be a pair of different arms, such as [both, baseline]"
_FACTORIAL_RULE = (
    "must be two factors with the two arms that have each, one of them in both lists, such as "
    "{DLA: [dla, both], DSL: [dsl, both]}; the baseline has neither"
)


def _pair(arms: Any) -> Any:
    if not isinstance(arms, list | tuple) or len(arms) != 2 or not all(isinstance(arm, str) for arm in arms):
        raise ValueError(_PAIR_RULE)
    return tuple(arms)


Contrasts = list[Annotated[tuple[str, str], BeforeValidator(_pair)]]
Factorial = dict[str, list[str]]  # factor -> the arms that have it


class Equivalence(Schema):
    """Arms that are claimed to be equivalent: no two of them differ by more than a margin.

    Attributes:
        arms: two or more arms.
        margins: metric -> margin in points of AP.
    """

    arms: list[str]
    margins: dict[str, Positive]


def factorial_arms(factorial: Factorial) -> tuple[str, str, str]:
    """The arm with the first factor alone, with the second alone, and with both."""
    first, second = factorial.values()
    (both,) = set(first) & set(second)
    return next(arm for arm in first if arm != both), next(arm for arm in second if arm != both), both


def comparison_faults(
    contrasts: Contrasts, factorial: Factorial, equivalence: list[Equivalence], arms: Collection[str], baseline: str
) -> Iterator[Fault]:
    """The faults of these fields in a grid with these arms, in the form of BrokenRulesError."""
    valid = f"; valid: {', '.join(arms)}"
    for index, pair in enumerate(contrasts):
        if len(set(pair)) != 2 or not set(pair) <= set(arms):
            yield ("contrasts", index), list(pair), _PAIR_RULE + valid
    named = [set(each) for each in factorial.values()]
    if factorial and not (
        [len(each) for each in factorial.values()] == [len(each) for each in named] == [2, 2]
        and len(named[0] & named[1]) == 1
        and named[0] | named[1] <= set(arms) - {baseline}
    ):
        yield ("factorial",), factorial, _FACTORIAL_RULE + valid
    for index, claim in enumerate(equivalence):
        if len(claim.arms) < 2 or len(set(claim.arms)) != len(claim.arms) or not set(claim.arms) <= set(arms):
            yield ("equivalence", index, "arms"), claim.arms, "must be two or more different arms" + valid

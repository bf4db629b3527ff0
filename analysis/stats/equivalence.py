"""Equivalence is tested and not inferred from a missing difference: two one-sided tests (TOST) against a margin.

Arms are EQUIVALENT if every two of them differ by less than the margin, each shown at the level of 5% (the 90% interval
of the difference is within the margin); all have to be, so this needs no correction. They are DIFFERENT if two of them
differ by more than the margin, at the level of 5% after Bonferroni's correction for the number of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.stats.estimate import Estimate
from analysis.stats.seeds import ALPHA

EQUIVALENT = "EQUIVALENT"
DIFFERENT = "DIFFERENT"
NOT_DECIDED = "NOT DECIDED"
MOST_SEEDS = 100

Pair = tuple[str, str]


@dataclass(frozen=True)
class EquivalenceTest:
    """A verdict on the equivalence of some arms.

    Attributes:
        verdict: EQUIVALENT, DIFFERENT or NOT_DECIDED.
        pair: the two arms that are farthest from equivalence.
        difference: of these, the first minus the second.
        p: of the equivalence; None if the noise is unknown.
        more: the number of further seeds per arm that would decide, if differences and noises stay as they are; None if
            it is decided, or if MOST_SEEDS would not.
    """

    verdict: str
    pair: Pair
    difference: Estimate
    p: float | None
    more: int | None = None

    @property
    def text(self) -> str:
        if self.verdict != NOT_DECIDED:
            return self.verdict
        if self.p is None:
            return f"{NOT_DECIDED} (needs two seeds per arm)"
        if self.more is None:
            return f"{NOT_DECIDED} ({MOST_SEEDS} more seeds would not decide)"
        return f"{NOT_DECIDED} ({self.more} more seed{'' if self.more == 1 else 's'} per arm would decide)"


def decide_equivalence(differences: Mapping[Pair, Estimate], arms: int, margin: float) -> EquivalenceTest:
    """Decide whether no two arms differ by more than `margin`.

    Args:
        differences: every pair of the arms.
        arms: their number.
        margin: in the unit of the differences.
    """
    pair = max(differences, key=lambda each: (differences[each].p_within(margin) or 0.0, abs(differences[each].value)))
    worst = differences[pair]
    p = worst.p_within(margin)
    verdict = _verdict(differences, margin)
    if verdict != NOT_DECIDED or p is None:
        return EquivalenceTest(verdict, pair, worst, p)
    for more in range(1, MOST_SEEDS + 1):
        then = {each: found.with_more_seeds(more, arms) for each, found in differences.items()}
        if _verdict(then, margin) != NOT_DECIDED:
            return EquivalenceTest(verdict, pair, worst, p, more)
    return EquivalenceTest(verdict, pair, worst, p)


def _verdict(differences: Mapping[Pair, Estimate], margin: float) -> str:
    within = [found.p_within(margin) for found in differences.values()]
    beyond = [found.p_beyond(margin) for found in differences.values()]
    if all(p is not None and p < ALPHA for p in within):
        return EQUIVALENT
    if any(p is not None and p * len(beyond) < ALPHA for p in beyond):
        return DIFFERENT
    return NOT_DECIDED

"""Verdicts on equivalence: cases worked out by hand, and how often they are wrong, by simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from analysis.stats.blocks import Blocks
from analysis.stats.equivalence import MOST_SEEDS, EquivalenceTest, decide_equivalence
from analysis.stats.estimate import Estimate
from analysis.stats.seeds import PooledSd


def two(value: float, sd: float, images: float = 0.0) -> EquivalenceTest:
    """Two arms of 4 seeds with 3 df: error sd x sqrt(2/4)."""
    estimate = Estimate(value, 2 / 4, PooledSd(sd, 3), images, 99)
    return decide_equivalence({("both", "replay"): estimate}, 2, 0.5)


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        # sd 0.1: error 0.0707; t(.95, 3) = 2.3534: half width 0.1664
        (0.33, 0.1, "EQUIVALENT"),
        (-0.33, 0.1, "EQUIVALENT"),
        (0.34, 0.1, "NOT DECIDED (1 more seed per arm would decide)"),  # with 5: 2.1318 x 0.0632 = 0.1348
        (0.66, 0.1, "NOT DECIDED (1 more seed per arm would decide)"),
        (0.67, 0.1, "DIFFERENT"),
        (-0.67, 0.1, "DIFFERENT"),
        (0.5, 0.1, f"NOT DECIDED ({MOST_SEEDS} more seeds would not decide)"),  # at the margin itself
        # sd 0.5, n = 8: t(.95, 7) 0.5 sqrt(2/8) = 1.8946 x 0.25 = 0.4736; n = 7: 1.9432 x 0.2673 = 0.519
        (0.0, 0.5, "NOT DECIDED (4 more seeds per arm would decide)"),
    ],
)
def test_two_arms_by_hand(value: float, sd: float, text: str) -> None:
    assert two(value, sd).text == text


def test_no_number_of_seeds_reduces_the_noise_over_images() -> None:
    assert two(0.0, 0.1, images=0.01).text == "EQUIVALENT"
    assert two(0.0, 0.1, images=0.10).text == f"NOT DECIDED ({MOST_SEEDS} more seeds would not decide)"  # 1.66 x 0.316


def test_unknown_noise_decides_nothing() -> None:
    found = decide_equivalence({("a", "b"): Estimate(0.0, 2.0, PooledSd(None, 0))}, 2, 0.5)
    assert (found.p, found.text) == (None, "NOT DECIDED (needs two seeds per arm)")


def test_the_range_of_several_arms_is_within_the_margin_if_every_pair_is() -> None:
    sd = PooledSd(0.1, 9)  # error 0.0707; t(.95, 9) = 1.8331: half width 0.1296
    found = {("a", "b"): 0.15, ("a", "c"): -0.1, ("b", "c"): -0.16}
    differences = {pair: Estimate(value, 0.5, sd) for pair, value in found.items()}
    assert decide_equivalence(differences, 3, 0.3).verdict == "EQUIVALENT"
    decided = decide_equivalence(differences | {("b", "c"): Estimate(-0.25, 0.5, sd)}, 3, 0.3)
    assert (decided.verdict, decided.pair, decided.difference.value) == ("NOT DECIDED", ("b", "c"), -0.25)
    # p of 0.17 beyond 0.3 is 0.02 alone, 0.06 for three pairs; of 0.25 it is 0.003 and 0.009
    for value, verdict in ((0.47, "NOT DECIDED"), (0.55, "DIFFERENT")):
        assert decide_equivalence(differences | {("b", "c"): Estimate(value, 0.5, sd)}, 3, 0.3).verdict == verdict


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "wrong"), [(0.3, "EQUIVALENT"), (0.5, "EQUIVALENT"), (0.0, "DIFFERENT"), (0.3, "DIFFERENT")]
)
def test_a_wrong_verdict_is_given_in_at_most_one_of_twenty(shift: float, wrong: str) -> None:
    """Three arms of 5 seeds, one of them `shift` away from the others, with a margin of 0.3."""
    rng, trials, hits = np.random.default_rng(0), 1000, 0
    for _ in range(trials):
        rows = 38 + rng.normal(0, 0.5, 5) + rng.normal(0, 0.15, (3, 5)) + np.array([[0], [0], [shift]])
        blocks = Blocks({(arm, seed): rows[at, seed] for at, arm in enumerate("abc") for seed in range(5)})
        found = {pair: blocks.contrast({pair[0]: 1, pair[1]: -1}) for pair in combinations("abc", 2)}
        hits += decide_equivalence({k: v for k, v in found.items() if v}, 3, 0.3).verdict == wrong
    assert hits / trials <= 0.065  # 5% and two standard errors

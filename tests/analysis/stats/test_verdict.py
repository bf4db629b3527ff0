"""The rule for claims: hand-computed cases, and how often it is wrong, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.stats.seeds import PooledSd, Ratio, Summary, paired_ratio, pool_sd, summarize
from analysis.stats.verdict import (
    MOST_BLOCKS,
    PRIOR_SDS,
    Decision,
    decide,
    decide_difference,
    decide_overhead,
    decide_retest,
    decide_speed,
    margin,
    with_prior,
)


def seeds(mean: float, n: int = 3) -> Summary:
    return Summary(n, mean, 0.1)


@pytest.mark.parametrize(
    ("mean", "n", "verdict"),
    [
        # s = 0.15, as the prior; df = 10 + 8: t(.95) = 1.734, t(.975) = 2.101
        # d = 0.5; n = 3: h90 = 0.150, hpred = 0.414
        (38.9, 3, "REPRODUCED"),
        (38.9 - 0.349, 3, "REPRODUCED"),  # 0.349 + 0.1502 = 0.4992
        (38.9 - 0.351, 3, "INCONCLUSIVE"),
        (38.9 + 0.351, 3, "INCONCLUSIVE"),
        (38.9 - 0.49, 3, "INCONCLUSIVE"),
        (38.9 - 0.51, 3, "NOT REPRODUCED"),
        (38.9 + 0.51, 3, "HIGHER THAN CLAIMED"),
        (38.9 - 0.239, 1, "REPRODUCED"),  # n = 1: h90 = 0.2601, hpred = 0.4957
        (38.9 - 0.241, 1, "INCONCLUSIVE"),
        (38.9 - 0.49, 1, "INCONCLUSIVE"),
        (38.9 - 0.51, 1, "NOT REPRODUCED"),
    ],
)
def test_a_value(mean: float, n: int, verdict: str):
    assert decide("AP", 38.9, seeds(mean, n), PooledSd(0.15, 8)).verdict == verdict


def test_the_prior_sd_counts_as_ten_degrees_of_freedom():
    # (10 x 0.15^2 + 8 x 0.6^2) / 18 = 0.1725
    found = with_prior("AP", PooledSd(0.6, 8))
    assert found.sd == pytest.approx(math.sqrt(0.1725)) and found.df == 18
    assert with_prior("AP90", PooledSd(None, 0)) == PooledSd(pytest.approx(0.30), 10)
    # n = 3: h90 = 0.4158, hpred = 1.0576
    noisy = PooledSd(0.6, 8)
    shifts = {0.08: "REPRODUCED", 0.09: "INCONCLUSIVE", 1.05: "INCONCLUSIVE", 1.06: "NOT REPRODUCED"}
    for shift, verdict in shifts.items():
        assert decide("AP", 38.9, seeds(38.9 - shift), noisy).verdict == verdict, shift


def test_a_difference_has_the_noise_of_two_arms():
    # s = 0.30 (AP90's prior sd), df = 18, n = 3 and 3: h90 = 0.425, hpred = 1.129, d = 1.0
    for gained, verdict in ((5.5, "REPRODUCED"), (4.93, "REPRODUCED"), (4.92, "INCONCLUSIVE"), (4.38, "INCONCLUSIVE")):
        found = decide_difference("AP90", 5.5, seeds(10 + gained), seeds(10), PooledSd(0.3, 8))
        assert found.verdict == verdict, gained
    assert decide_difference("AP90", 5.5, seeds(14.36), seeds(10), PooledSd(0.3, 8)).verdict == "NOT REPRODUCED"
    assert decide_difference("AP90", 5.5, seeds(17), seeds(10), PooledSd(0.3, 8)).verdict == "HIGHER THAN CLAIMED"


@pytest.mark.parametrize("metric", PRIOR_SDS)
def test_two_seeds_on_target_never_say_less_than_one(metric: str):
    """The only runs: no other arm measures the noise."""
    for n in range(1, 6):
        arm, noise = summarize([38.9] * n), pool_sd([[38.9] * n])
        assert decide(metric, 38.9, arm, noise).verdict == "REPRODUCED"
    two = [38.9 - PRIOR_SDS[metric], 38.9 + PRIOR_SDS[metric]]
    assert decide(metric, 38.9, summarize(two), pool_sd([two])).verdict == "REPRODUCED"
    short = [38.9 - 3 * margin(metric)] * 2
    assert decide(metric, 38.9, summarize(short), pool_sd([short])).verdict == "NOT REPRODUCED"


@pytest.mark.parametrize("metric", ["AP", "AP90"])
@pytest.mark.parametrize("sd", [0.5, 1.0])
def test_more_seeds_with_the_same_mean_never_decide_less(metric: str, sd: float):
    """For any mean, while the measured sd is not above the prior sd. sd: in prior sds."""
    for gap in np.linspace(0, 3, 61) * margin(metric):
        found = []
        for n in range(1, 8):
            noise = PooledSd(sd * PRIOR_SDS[metric], 4 * (n - 1)) if n > 1 else PooledSd(None, 0)
            found.append(decide(metric, 38.9, Summary(n, 38.9 - gap, None), noise).verdict)
        decided = [verdict for verdict in found if verdict != "INCONCLUSIVE"]
        assert len(set(decided)) <= 1 and found == ["INCONCLUSIVE"] * (7 - len(decided)) + decided, gap


def test_each_further_look_halves_the_allowed_error():
    # df = 18: t(.975) = 2.101, t(.9875) = 2.445; n = 3, s = 0.15: h90 = 0.1820, hpred = 0.4735 at the second look
    noise = PooledSd(0.15, 8)
    for shift, first, second in ((0.317, "REPRODUCED", "REPRODUCED"), (0.319, "REPRODUCED", "INCONCLUSIVE")):
        assert decide("AP", 38.9, seeds(38.9 - shift), noise).verdict == first
        assert decide("AP", 38.9, seeds(38.9 - shift), noise, looks=2).verdict == second
    # t(.99375) = 2.7731 at the third: n = 1 of a difference: 2.7731 x 0.15 x 2 + 0.1 = 0.932
    for shift, verdict in ((0.93, "INCONCLUSIVE"), (0.94, "NOT REPRODUCED")):
        found = decide_difference("AP", 1.9, seeds(38.9 - shift, 1), seeds(37.0, 1), noise, looks=3)
        assert found.verdict == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (38.9, "REPRODUCED"),
        (38.95, "REPRODUCED"),  # in floats 38.95 - 38.9 is above 0.05
        (38.85, "REPRODUCED"),
        (38.951, "HIGHER THAN CLAIMED"),
        (38.849, "NOT REPRODUCED"),
        (37.4, "NOT REPRODUCED"),
    ],
)
def test_released_weights_are_held_to_half_a_printed_digit(measured: float, verdict: str):
    assert decide_retest(38.9, measured) == Decision(verdict)


def test_without_two_seeds_of_any_arm_the_prior_is_the_noise():
    # df = 10: t(.95) = 1.812: h90 = 0.2719
    assert decide("AP", 38.9, Summary(1, 38.673, None), PooledSd(None, 0)).verdict == "REPRODUCED"
    assert decide("AP", 38.9, Summary(1, 38.671, None), PooledSd(None, 0)).verdict == "INCONCLUSIVE"


def test_how_many_more_seeds_would_decide():
    # a second look: n = 4, df = 19: t(.975) = 2.093: h90 = 0.157
    found = decide("AP", 38.9, seeds(38.9 - 0.34), PooledSd(0.2, 8))
    assert found.verdict == "INCONCLUSIVE"
    found = decide("AP", 38.9, seeds(38.9 - 0.352), PooledSd(0.15, 8))
    assert found == Decision("INCONCLUSIVE", 2) and found.text == "INCONCLUSIVE (2 more seeds would decide)"
    assert decide("AP", 38.9, seeds(38.9 - 0.352, 5), PooledSd(0.15, 10), looks=2).verdict == "REPRODUCED"
    assert decide("AP", 38.9, seeds(38.9 - 0.352, 4), PooledSd(0.15, 9), looks=2).verdict == "INCONCLUSIVE"
    never = decide("AP", 38.9, seeds(38.9 - 0.55), PooledSd(0.3, 8))  # between the margin and what a run may show
    assert never == Decision("INCONCLUSIVE") and "30 more seeds would not decide" in never.text


def test_margins_grow_with_the_noise_of_a_metric():
    assert margin("AP") == 0.5 and margin("AP90") == pytest.approx(1.0)
    assert all(margin(metric) >= 0.5 for metric in PRIOR_SDS)


def frequencies(shift: float, sd: float, n: int, trials: int = 1500) -> dict[str, float]:
    """How often each verdict is given on an arm whose true mean is `shift` off a printed run; four arms pool the noise.

    The printed number is a single run with the same noise, rounded.
    """
    generator = np.random.default_rng(0)
    counts: dict[str, int] = {}
    for _ in range(trials):
        printed = round(38.9 + sd * generator.standard_normal(), 1)
        arms = 38.9 + shift + sd * generator.standard_normal((4, n))
        verdict = decide("AP", printed, summarize(arms[0].tolist()), pool_sd(arms.tolist())).verdict
        counts[verdict] = counts.get(verdict, 0) + 1
    return {verdict: count / trials for verdict, count in counts.items()}


@pytest.mark.parametrize(("sd", "n"), [(0.05, 1), (0.15, 1), (0.05, 3), (0.15, 3), (0.3, 3), (0.15, 5), (0.3, 5)])
def test_a_true_claim_is_hardly_ever_rejected(sd: float, n: int):
    found = frequencies(0.0, sd, n)
    most = 0.035 if sd <= 0.15 else 0.06  # a sd of twice the prior sd has its price
    assert found.get("NOT REPRODUCED", 0) <= most and found.get("HIGHER THAN CLAIMED", 0) <= most
    if n >= 3 and sd <= 0.15:
        assert found["REPRODUCED"] >= 0.9


def test_one_seed_per_arm_is_not_enough_if_the_noise_is_above_the_prior():
    """The noise is twice the prior sd: a true claim is rejected far more often than with three seeds."""
    assert 0.05 < frequencies(0.0, 0.3, 1)["NOT REPRODUCED"] < 0.2


@pytest.mark.parametrize("sd", [0.05, 0.15, 0.3])
def test_a_claim_that_is_off_by_a_point_is_hardly_ever_confirmed(sd: float):
    found = frequencies(-1.0, sd, 3)
    assert found.get("REPRODUCED", 0) <= (0.02 if sd <= 0.15 else 0.04) and found.get("HIGHER THAN CLAIMED", 0) == 0
    if sd <= 0.15:
        assert found["NOT REPRODUCED"] >= 0.9
    assert frequencies(1.0, sd, 3).get("REPRODUCED", 0) <= (0.02 if sd <= 0.15 else 0.04)


def test_more_noise_means_fewer_verdicts():
    undecided = [frequencies(0.0, sd, 3).get("INCONCLUSIVE", 0) for sd in (0.05, 0.2, 0.4)]
    assert undecided == sorted(undecided) and undecided[-1] > undecided[0]


def confirmed_at_the_margin(looks: list[int], widen: bool, trials: int = 2000) -> float:
    """How often the rule says REPRODUCED at one of `looks` (numbers of seeds), if the true value is at the margin."""
    generator, hits = np.random.default_rng(1), 0
    for _ in range(trials):
        arms = 38.9 - margin("AP") + 0.15 * generator.standard_normal((4, looks[-1]))
        for look, n in enumerate(looks, start=1):
            own, noise = summarize(arms[0, :n].tolist()), pool_sd(arms[:, :n].tolist())
            found = decide("AP", 38.9, own, noise, look if widen else 1).verdict
            if found != "INCONCLUSIVE":
                hits += found == "REPRODUCED"
                break
    return hits / trials


def test_at_the_margin_itself_a_fixed_printed_number_is_confirmed_in_one_of_twenty():
    assert 0.035 <= confirmed_at_the_margin([3], widen=True) <= 0.055


def test_looking_after_each_seed_errs_less_often_than_twice_if_each_look_is_widened():
    looks = [1, 2, 3, 4, 5]
    widened, same = (confirmed_at_the_margin(looks, widen) for widen in (True, False))
    assert widened <= 0.06 and same >= 0.08  # at most 10% in theory


def ratio(low: float, high: float) -> Ratio:
    return Ratio((low * high) ** 0.5, low, high, 20, 0.05)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.99, 1.049, "REPRODUCED"),
        (0.5, 0.6, "REPRODUCED"),  # cheaper is no overhead
        (1.01, 1.05, "REPRODUCED"),
        (1.01, 1.051, "INCONCLUSIVE"),
        (1.049, 1.2, "INCONCLUSIVE"),
        (1.051, 1.2, "NOT REPRODUCED"),
    ],
)
def test_overhead_is_decided_by_its_interval_against_5_percent(low: float, high: float, verdict: str):
    assert decide_overhead(ratio(low, high)).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        # printed 13.9 / 11.2 = 1.2411: from 1.1283 to 1.3652
        (1.13, 1.36, "REPRODUCED"),
        (1.12, 1.36, "INCONCLUSIVE"),
        (1.13, 1.37, "INCONCLUSIVE"),
        (1.0, 1.12, "NOT REPRODUCED"),
        (1.37, 1.5, "HIGHER THAN CLAIMED"),
    ],
)
def test_a_ratio_of_speeds_is_decided_by_its_interval_against_10_percent(low: float, high: float, verdict: str):
    assert decide_speed(ratio(low, high), 13.9 / 11.2).verdict == verdict


def test_how_many_more_blocks_would_decide():
    # sd 0.08 of the logarithm around 1.02, n = 3: t(.95, 2) = 2.920: 1.02 exp(0.135) = 1.167, and exp(-0.135): 0.891.
    # Within 1.05 = 1.02 exp(0.0290) when t(.95, n - 1) 0.08 / sqrt(n) <= 0.0290: n = 22 gives 0.02935, n = 23 0.02864
    few = Ratio(1.02, 0.891, 1.167, 3, 0.08)
    found = decide_overhead(few)
    assert found == Decision("INCONCLUSIVE", 20, "block", MOST_BLOCKS)
    assert found.text == "INCONCLUSIVE (20 more blocks would decide)"
    assert decide_overhead(Ratio(1.05, 1.0, 1.1, 20, 0.1)).text == "INCONCLUSIVE (1000 more blocks would not decide)"
    assert decide_overhead(Ratio(1.02, None, None, 1, None)).text == "INCONCLUSIVE (1 more block would decide)"


def overhead_frequencies(true: float, sd: float, rounds: int, trials: int = 500) -> dict[str, float]:
    """How often each verdict is given if rounds differ by a factor of up to three and blocks have the noise `sd`."""
    generator = np.random.default_rng(2)
    counts: dict[str, int] = {}
    for _ in range(trials):
        machine = generator.uniform(0.0, np.log(3), rounds)
        ours, theirs = (machine + sd * generator.standard_normal(rounds) for _ in range(2))
        blocks = [dict(enumerate(np.exp(each))) for each in (ours + np.log(true), theirs)]
        found = paired_ratio(*blocks)
        assert found is not None
        verdict = decide_overhead(found).verdict
        counts[verdict] = counts.get(verdict, 0) + 1
    return {verdict: count / trials for verdict, count in counts.items()}


def test_the_rule_for_overhead_detects_overhead_and_is_rarely_wrong():
    assert overhead_frequencies(1.00, 0.03, 20).get("REPRODUCED", 0) >= 0.99  # an interval of 1.6% on either side
    assert overhead_frequencies(1.10, 0.03, 20).get("NOT REPRODUCED", 0) >= 0.99
    at_the_margin = overhead_frequencies(1.05, 0.03, 20)
    assert at_the_margin.get("REPRODUCED", 0) <= 0.07 and at_the_margin.get("NOT REPRODUCED", 0) <= 0.07
    noisy = overhead_frequencies(1.00, 0.2, 20)
    assert noisy.get("INCONCLUSIVE", 0) >= 0.7 and noisy.get("NOT REPRODUCED", 0) <= 0.02

"""analysis.stats.estimate against numbers worked out by hand, and the independent tests of statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from analysis.stats.blocks import Blocks
from analysis.stats.estimate import Estimate, correct_by_holm
from analysis.stats.seeds import PooledSd


def test_an_interval_by_hand() -> None:
    """sd 1 on 4 df, 2 x 3 seeds: half width t(.975, 4) sqrt(2/3) = 2.7764 x 0.8165 = 2.2670; p of 3.674 is 0.0213."""
    found = Estimate(3.0, 2 / 3, PooledSd(1.0, 4))
    assert found.low == pytest.approx(3 - 2.2670, abs=1e-4) and found.high == pytest.approx(3 + 2.2670, abs=1e-4)
    assert found.p == pytest.approx(0.0213, abs=1e-4) and found.is_significant is True
    assert found.interval(0.90)[0] == pytest.approx(3 - 2.1318 * 0.8165, abs=1e-4)
    assert Estimate(-2.0, 2 / 3, PooledSd(1.0, 4)).is_significant is False


def test_both_noises_add_up_by_hand() -> None:
    """Variances 0.5 (4 df) and 0.3 (99 df): error sqrt(0.8); df 0.64 / (0.25 / 4 + 0.09 / 99) = 10.093."""
    found = Estimate(1.0, 0.5, PooledSd(1.0, 4), images=0.3, images_df=99)
    assert found.error == pytest.approx(math.sqrt(0.8), rel=1e-15)
    assert found.df == pytest.approx(10.093, abs=1e-3)
    assert Estimate(1.0, 0.5, PooledSd(1.0, 4), images=0.0, images_df=99).df == 4


def test_unknown_noise_decides_nothing() -> None:
    found = Estimate(3.0, 2.0, PooledSd(None, 0), images=0.1, images_df=99)
    assert (found.error, found.p, found.is_significant, found.low, found.detectable) == (None,) * 5
    assert found.p_within(0.5) is None and found.p_beyond(0.5) is None


def test_without_any_noise_only_zero_is_not_significant() -> None:
    none, some = (Estimate(value, 1.0, PooledSd(0.0, 2)) for value in (0.0, -0.1))
    assert (none.p, some.p, none.is_significant, some.is_significant) == (1.0, 0.0, False, True)
    assert (some.p_within(0.3), some.p_beyond(0.3), some.p_beyond(0.05)) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_two_arms_are_tested_as_scipys_and_statsmodels_paired_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(0.1, 0.3, (2, 6)) + rng.normal(0, 2, 6)
    runs = {("a", n): value for n, value in enumerate(ours)} | {("b", n): value for n, value in enumerate(theirs)}
    found = Blocks(runs).contrast({"a": 1, "b": -1})
    assert found is not None and found.noise.df == 5
    expected = ttest_rel(ours, theirs)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    for margin in (0.2, 0.5):
        p, *_ = ttost_paired(ours, theirs, -margin, margin)
        assert found.p_within(margin) == pytest.approx(p, rel=1e-9)


def with_p(p: float | None) -> Estimate:
    """An estimate with this two-sided p on 1 df: tan(pi/2 (1 - p))."""
    if p is None:
        return Estimate(1.0, 1.0, PooledSd(None, 0))
    return Estimate(math.tan(math.pi / 2 * (1 - p)), 1.0, PooledSd(1.0, 1))


def test_holms_correction_by_hand() -> None:
    """Sorted .005 .015 .02 .5, times 4, 3, 2, 1: .02 .045 .04 .5; with the running maximum .02 .045 .045 .5."""
    given = {
        **{"c": with_p(0.02), "a": with_p(0.005), "d": with_p(0.5), "b": with_p(0.015)},
        **{"none": None, "one": with_p(None)},
    }
    found = correct_by_holm(given)
    corrected = {name: each.corrected for name, each in found.items() if each is not None}
    assert corrected == pytest.approx({"c": 0.045, "a": 0.02, "d": 0.5, "b": 0.045, "one": None})
    assert list(found) == list(given) and found["none"] is None
    assert [each.is_significant for each in found.values() if each] == [True, True, False, True, None]
    most = correct_by_holm({"x": with_p(0.7), "y": with_p(0.9)})
    assert [each.corrected for each in most.values() if each] == [1.0, 1.0]


def test_holms_correction_is_that_of_statsmodels() -> None:
    values = np.random.default_rng(0).uniform(0, 0.2, 7)
    found = correct_by_holm({str(at): with_p(p) for at, p in enumerate(values)})
    expected = multipletests(values, method="holm")[1]
    assert [each.corrected for each in found.values() if each] == pytest.approx(list(expected), rel=1e-9)


def test_the_detectable_difference_by_hand() -> None:
    """t(.975, 12) + t(.80, 12) = 2.1788 + 0.8726; sd 0.45, 3 and 5 seeds: sqrt(1/3 + 1/5) = 0.7303."""
    found = Estimate(0.0, 1 / 3 + 1 / 5, PooledSd(0.45, 12))
    assert found.detectable == pytest.approx((2.1788 + 0.8726) * 0.45 * 0.7303, abs=1e-4)


def test_further_seeds_reduce_the_noise_between_seeds_alone() -> None:
    """3 seeds and 3 more per arm, two arms: spread 2/6, df 2 + 3."""
    found = Estimate(0.1, 2 / 3, PooledSd(0.4, 2), images=0.02, images_df=99).with_more_seeds(3, 2)
    assert (found.spread, found.noise, found.images) == (pytest.approx(2 / 6), PooledSd(0.4, 5), 0.02)

"""analysis.stats.seeds against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student_t

from analysis.stats.seeds import (
    Difference,
    PooledSd,
    correct_by_holm,
    detectable_difference,
    difference,
    pool_sd,
    running_mean,
    summarize,
    t_quantile,
)


def test_mean_and_sd_with_ddof_1() -> None:
    summary = summarize([40.0, 41.0, 45.0])  # deviations -2, -1, 3: 14 / 2 = 7
    assert (summary.n, summary.mean) == (3, 42.0)
    assert summary.sd == pytest.approx(math.sqrt(7), abs=0)


def test_undefined_values_are_left_out() -> None:
    assert summarize([None, math.nan, 3.0]) == summarize([3.0])
    assert summarize([3.0]).sd is None
    assert summarize([]) == summarize([None])
    assert summarize([]).mean is None and summarize([]).n == 0


def test_pooled_sd_weights_by_degrees_of_freedom() -> None:
    # squared deviations 2 (df 2), 0.5 (df 1), none (one seed): 2.5 / 3
    noise = pool_sd([[1.0, 2.0, 3.0], [5.0, 6.0], [9.0], []])
    assert noise.df == 3
    assert noise.sd == pytest.approx(math.sqrt(2.5 / 3), rel=1e-15)


def test_the_noise_of_one_seed_per_arm_is_unknown() -> None:
    noise = pool_sd([[1.0], [2.0]])
    assert noise == PooledSd(None, 0)
    found = difference({0: 2.0}, {0: 1.0}, noise)
    assert found is not None
    assert (found.value, found.low, found.high, found.is_significant) == (1.0, None, None, None)


def test_difference_with_its_interval() -> None:
    """s = 1, df 4, n = 3 and 3: half width t(.95, 4) sqrt(2/3) = 2.1318 * 0.8165 = 1.7406."""
    found = difference({0: 4.0, 1: 5.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}, PooledSd(1.0, 4))
    assert found is not None
    assert found.value == 3.0
    assert found.low == pytest.approx(3 - 1.7406, abs=1e-4)
    assert found.high == pytest.approx(3 + 1.7406, abs=1e-4)
    assert found.is_significant is True


def test_an_interval_around_zero_is_not_significant() -> None:
    found = difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0}, PooledSd(1.0, 2))
    assert found is not None and found.low is not None and found.low < 0
    assert found.is_significant is False
    equal = difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, PooledSd(0.0, 2))
    assert equal is not None and equal.is_significant is False


def test_a_negative_difference_can_be_significant() -> None:
    found = difference({0: 1.0, 1: 1.2}, {0: 9.0, 1: 9.2}, PooledSd(0.1, 2))
    assert found is not None and found.value == pytest.approx(-8) and found.is_significant is True


def test_paired_sd_takes_common_seeds_only() -> None:
    """Differences are 1 and 3 at seeds 0 and 1 (sd sqrt 2); seeds 2 and 3 have no pair. Means are over all seeds."""
    found = difference({0: 2.0, 1: 5.0, 2: 50.0}, {0: 1.0, 1: 2.0, 3: 9.0}, PooledSd(1.0, 4))
    assert found is not None
    assert found.pairs == 2
    assert found.paired_sd == pytest.approx(math.sqrt(2))
    assert found.value == pytest.approx(57 / 3 - 4)


def test_there_is_no_difference_without_values() -> None:
    assert difference({}, {0: 1.0}, PooledSd(1.0, 2)) is None
    assert difference({0: math.nan}, {0: 1.0}, PooledSd(1.0, 2)) is None


@pytest.mark.parametrize(("confidence", "df", "expected"), [(0.90, 8, 1.8595), (0.95, 8, 2.3060), (0.90, 1, 6.3138)])
def test_t_quantile_against_a_printed_table(confidence: float, df: int, expected: float) -> None:
    assert t_quantile(confidence, df) == pytest.approx(expected, abs=5e-5)


def test_running_mean_has_a_shorter_window_at_the_ends() -> None:
    assert running_mean([1.0, 2.0, 6.0, 7.0], 3) == [1.5, 3.0, 5.0, 6.5]
    assert running_mean([1.0, math.nan, 3.0], 3) == [1.0, 2.0, 3.0]
    assert running_mean([4.0, 5.0], 1) == [4.0, 5.0]


def test_the_order_of_values_does_not_change_the_result() -> None:
    values = [0.1, 0.7, 1e16, -1e16, 0.3]
    assert summarize(values) == summarize(reversed(values))


def test_p_is_students_two_sided_one() -> None:
    """t = 3 / sqrt(2/3) = 3.674 on 4 df: p = 0.0213 (a table has 3.747 at 0.02)."""
    found = difference({0: 4.0, 1: 5.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0}, PooledSd(1.0, 4))
    assert found is not None and found.p == pytest.approx(0.0213, abs=1e-4)
    equal = difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0}, PooledSd(0.0, 2))
    other = difference({0: 2.0, 1: 2.0}, {0: 1.0, 1: 1.0}, PooledSd(0.0, 2))
    assert equal is not None and other is not None and (equal.p, other.p) == (1.0, 0.0)


@pytest.mark.parametrize("df", [1, 4, 19, 190])
def test_quantile_and_p_are_those_of_scipys_distribution(df: int) -> None:
    """They are equal to the last bit, so reports do not depend on which of the two computes them."""
    assert t_quantile(0.9, df) == student_t.ppf(0.95, df)
    found = difference({0: 4.0, 1: 5.0, 2: 7.0}, {0: 1.0, 1: 2.0, 2: 3.0}, PooledSd(1.3, df))
    assert found is not None and found.p == 2 * student_t.sf(abs(found.value) / (1.3 * math.sqrt(2 / 3)), df)


def with_p(p: float | None) -> Difference:
    return Difference(1.0, None, None, 0, None, p)


def test_holms_correction_by_hand() -> None:
    """Sorted .01 .03 .04 .5, times 4, 3, 2, 1: .04 .09 .08 .5; with the running maximum .04 .09 .09 .5."""
    given = {
        "c": with_p(0.04),
        "a": with_p(0.01),
        "d": with_p(0.5),
        "b": with_p(0.03),
        "none": None,
        "one": with_p(None),
    }
    found = correct_by_holm(given)
    corrected = {name: each.corrected for name, each in found.items() if each is not None}
    assert corrected == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5, "one": None})
    assert list(found) == list(given) and found["none"] is None
    assert [each.is_significant for each in found.values() if each] == [True, True, False, True, None]
    (alone,) = correct_by_holm({"x": with_p(0.08)}).values()
    assert alone is not None and (alone.corrected, alone.is_significant) == (0.08, True)
    most = correct_by_holm({"x": with_p(0.7), "y": with_p(0.9)})
    assert [each.corrected for each in most.values() if each] == [1.0, 1.0]


def test_the_smallest_detectable_difference() -> None:
    """t(.95, 12) + t(.80, 12) = 1.7823 + 0.8726; sd 0.45, 3 and 5 seeds: sqrt(1/3 + 1/5) = 0.7303."""
    assert detectable_difference(PooledSd(0.45, 12), [3, 5]) == pytest.approx(
        (1.7823 + 0.8726) * 0.45 * 0.7303, abs=1e-3
    )
    assert (
        detectable_difference(PooledSd(None, 0), [1, 1]) is None
        and detectable_difference(PooledSd(0.45, 12), [0, 5]) is None
    )

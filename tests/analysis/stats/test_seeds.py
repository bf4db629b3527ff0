"""analysis.stats.seeds against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student_t

from analysis.stats.seeds import PooledSd, pool_sd, running_mean, summarize, t_quantile


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


def test_the_noise_of_one_seed_per_arm_is_unknown() -> None:
    assert pool_sd([[1.0], [2.0]]) == PooledSd(None, 0)


@pytest.mark.parametrize("df", [1, 4, 8.98, 190])
def test_quantiles_are_those_of_scipys_distribution(df: float) -> None:
    """They are equal to the last bit, so reports do not depend on which of the two computes them."""
    assert t_quantile(0.9, df) == student_t.ppf(0.95, df)

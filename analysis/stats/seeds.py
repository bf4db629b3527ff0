"""Pure statistics over seeds.

Results have the unit of their input. Standard deviations have ddof 1. Sums are exact (`math.fsum`), so the order of the
input does not change a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit  # importing scipy.stats takes a second

CONFIDENCE = 0.90
POWER = 0.80
LEVEL = f"{100 * CONFIDENCE:.0f}%"


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of `n` values; mean is None if n = 0, sd is None if n < 2."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class PooledSd:
    """The standard deviation that arms share if their variances are equal; None if df = 0 (one seed per arm)."""

    sd: float | None
    df: int


@dataclass(frozen=True)
class Difference:
    """Mean of an arm minus mean of its baseline.

    Attributes:
        value: the difference.
        low, high: t interval on the pooled sd; None if no arm has two seeds, so that the noise is unknown.
        pairs: number of seeds that both arms have.
        paired_sd: sd of the differences over those seeds; None if there are fewer than two.
        p: two-sided, of no difference; None if the noise is unknown.
        corrected: p after Holm's correction (see `correct_by_holm`); None without correction.
    """

    value: float
    low: float | None
    high: float | None
    pairs: int
    paired_sd: float | None
    p: float | None = None
    corrected: float | None = None

    @property
    def deciding_p(self) -> float | None:
        """The corrected p if there is one, else p."""
        return self.p if self.corrected is None else self.corrected

    @property
    def is_significant(self) -> bool | None:
        """Whether the difference is significant; None if the noise is unknown."""
        return None if self.deciding_p is None else self.deciding_p < 1 - CONFIDENCE


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of `n` paired ratios.

    Attributes:
        value: the geometric mean.
        low, high: t interval, computed on the logarithms; None if n = 1.
        n: number of pairs.
        sd: of the logarithms; None if n = 1.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def defined_values(values: Iterable[float | None]) -> list[float]:
    """The values that are defined (neither None nor NaN)."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def summarize(values: Iterable[float | None]) -> Summary:
    """Mean and sd of the defined values."""
    kept = defined_values(values)
    sd = math.sqrt(_squares(kept) / (len(kept) - 1)) if len(kept) > 1 else None
    return Summary(len(kept), mean(kept) if kept else None, sd)


def pool_sd(groups: Iterable[Iterable[float | None]]) -> PooledSd:
    """The sd pooled over arms.

    Args:
        groups: the values of each arm, one per seed.

    Returns:
        The root of the squared deviations from each arm's own mean over df, the sum of (n - 1).
    """
    kept = [values for values in map(defined_values, groups) if values]
    df = sum(len(values) - 1 for values in kept)
    return PooledSd(math.sqrt(math.fsum(map(_squares, kept)) / df) if df else None, df)


def mean_interval(summary: Summary, noise: PooledSd) -> tuple[float, float] | tuple[None, None]:
    """The t interval of a mean on the pooled sd; (None, None) if either is unknown."""
    if summary.mean is None or noise.sd is None:
        return None, None
    half = t_quantile(CONFIDENCE, noise.df) * noise.sd / math.sqrt(summary.n)
    return summary.mean - half, summary.mean + half


def difference(arm: Mapping[int, float], baseline: Mapping[int, float], noise: PooledSd) -> Difference | None:
    """The mean of `arm` minus that of `baseline`.

    Args:
        arm: seed -> value; NaN is left out.
        baseline: the same of the baseline.
        noise: the sd pooled over the arms of the grid.

    Returns:
        The difference, not corrected for multiple comparisons; None if either has no defined value.
    """
    ours, theirs = (
        {seed: value for seed, value in each.items() if defined_values([value])} for each in (arm, baseline)
    )
    if not ours or not theirs:
        return None
    value = mean(list(ours.values())) - mean(list(theirs.values()))
    seeds = sorted(set(ours) & set(theirs))
    paired_sd = summarize(ours[seed] - theirs[seed] for seed in seeds).sd
    if noise.sd is None:
        return Difference(value, None, None, len(seeds), paired_sd)
    error = noise.sd * math.sqrt(1 / len(ours) + 1 / len(theirs))
    half = t_quantile(CONFIDENCE, noise.df) * error
    return Difference(value, value - half, value + half, len(seeds), paired_sd, _two_sided(value, error, noise.df))


def correct_by_holm(differences: Mapping[str, Difference | None]) -> dict[str, Difference | None]:
    """The differences with p corrected for their number (Holm 1979, step-down)."""
    known = {name: found.p for name, found in differences.items() if found is not None and found.p is not None}
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(known, key=lambda name: known[name])):
        largest = max(largest, min(1.0, (len(known) - rank) * known[name]))
        corrected[name] = largest
    return {
        name: replace(found, corrected=corrected[name]) if found is not None and name in corrected else found
        for name, found in differences.items()
    }


def detectable_difference(noise: PooledSd, counts: Sequence[int]) -> float | None:
    """The smallest difference of two arms that is found significant with probability POWER, without correction.

    Args:
        noise: the pooled sd.
        counts: the number of seeds of each arm.

    Returns:
        t at 1 - (1 - CONFIDENCE) / 2 plus t at POWER, times the standard error; None if the noise is unknown or an arm
        has no seeds.
    """
    if noise.sd is None or not all(counts):
        return None
    error = noise.sd * math.sqrt(math.fsum(1 / count for count in counts))
    return error * (t_quantile(CONFIDENCE, noise.df) + float(stdtrit(noise.df, POWER)))


def _two_sided(value: float, error: float, df: float) -> float:
    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stdtr(df, -abs(value) / error))


def paired_ratio(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Ratio | None:
    """`ours` over `theirs`, both positive, paired by key; None without a pair."""
    logs = summarize(math.log(ours[key] / theirs[key]) for key in ours if key in theirs)
    if logs.mean is None:
        return None
    if logs.sd is None:
        return Ratio(math.exp(logs.mean), None, None, logs.n, None)
    half = t_quantile(CONFIDENCE, logs.n - 1) * logs.sd / math.sqrt(logs.n)
    return Ratio(math.exp(logs.mean), math.exp(logs.mean - half), math.exp(logs.mean + half), logs.n, logs.sd)


@cache
def t_quantile(confidence: float, df: float) -> float:
    """Half the width of the central interval of Student's t, in standard errors."""
    return float(stdtrit(df, (1 + confidence) / 2))


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean over a centred window of `width` points, shortened at both ends; undefined points are left out."""
    known = np.isfinite(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(known, values, 0.0), known))
    first = np.maximum(np.arange(len(values)) - (width - 1) // 2, 0)
    last = np.minimum(np.arange(len(values)) + width // 2 + 1, len(values))
    total, count = sums[last] - sums[first], counts[last] - counts[first]
    return np.where(count > 0, total / np.maximum(count, 1), math.nan).tolist()


def mean(values: Sequence[float]) -> float:
    """Mean of defined values; NaN if there are none."""
    return math.fsum(values) / len(values) if values else math.nan


def _squares(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)

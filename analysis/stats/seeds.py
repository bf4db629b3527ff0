"""Pure statistics over seeds.

Results have the unit of their input. Standard deviations have ddof 1. Sums are exact (`math.fsum`), so the order of the
input does not change a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import stdtrit  # importing scipy.stats takes a second

ALPHA = 0.05
CONFIDENCE = 1 - ALPHA  # of means and differences
LEVEL = "95%"
TOST_CONFIDENCE = 1 - 2 * ALPHA  # of an interval that is compared with a margin: two one-sided tests at ALPHA
TOST_LEVEL = "90%"


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
    df: float


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of `n` paired ratios.

    Attributes:
        value: the geometric mean.
        low, high: 90% t interval, computed on the logarithms; None if n = 1.
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


def paired_ratio(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Ratio | None:
    """`ours` over `theirs`, both positive, paired by key; None without a pair."""
    logs = summarize(math.log(ours[key] / theirs[key]) for key in ours if key in theirs)
    if logs.mean is None:
        return None
    if logs.sd is None:
        return Ratio(math.exp(logs.mean), None, None, logs.n, None)
    half = t_quantile(TOST_CONFIDENCE, logs.n - 1) * logs.sd / math.sqrt(logs.n)
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

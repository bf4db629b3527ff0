"""Pure statistics over seeds. Values and results are in the unit of the input; sd has ddof 1.

Means and sds are of exact sums (`math.fsum`): no order of the records moves a printed digit.
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
    """Mean and sd of `n` values; mean is None for n = 0, sd is None for n < 2."""

    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Pooled:
    """The sd that arms share if their variances are equal; sd is None for df = 0 (one seed an arm)."""

    sd: float | None
    df: int


@dataclass(frozen=True)
class Difference:
    """Mean of an arm minus mean of the baseline, with a t interval on the pooled sd.

    `low`, `high` and `p` (two-sided, of no difference) are None where no arm has two seeds: the noise is not known.
    `pairs` counts the seeds that both arms have, `paired_sd` is the sd of their differences (None below two).
    `corrected`: p after Holm's correction over the differences that it is one of (see `corrected_by_holm`).
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
        """p after the correction, where there was one."""
        return self.p if self.corrected is None else self.corrected

    @property
    def told_apart(self) -> bool | None:
        """Whether there is a difference, after the correction; None where the noise is not known."""
        return None if self.deciding_p is None else self.deciding_p < 1 - CONFIDENCE


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of `n` paired ratios, with a t interval on the logarithm; low and high are None for n = 1.

    sd: of the logarithms (ddof 1), None for n = 1.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def finite(values: Iterable[float | None]) -> list[float]:
    """The values that are defined (not None, not NaN)."""
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def summarize(values: Iterable[float | None]) -> Summary:
    """Mean and sd of the defined values."""
    kept = finite(values)
    if not kept:
        return Summary(0, None, None)
    if len(kept) < 2:
        return Summary(1, mean(kept), None)
    return Summary(len(kept), mean(kept), math.sqrt(_squares(kept) / (len(kept) - 1)))


def pooled(groups: Iterable[Iterable[float | None]]) -> Pooled:
    """The pooled sd of several arms: squared deviations from each arm's own mean, over the sum of (n - 1)."""
    kept = [values for values in map(finite, groups) if values]
    df = sum(len(values) - 1 for values in kept)
    if df == 0:
        return Pooled(None, 0)
    return Pooled(math.sqrt(math.fsum(_squares(values) for values in kept) / df), df)


def mean_interval(summary: Summary, noise: Pooled) -> tuple[float, float] | tuple[None, None]:
    """The t interval of a mean on the pooled sd; (None, None) where either is not known."""
    if summary.mean is None or noise.sd is None:
        return None, None
    half = t_quantile(CONFIDENCE, noise.df) * noise.sd / math.sqrt(summary.n)
    return summary.mean - half, summary.mean + half


def difference(arm: Mapping[int, float], baseline: Mapping[int, float], noise: Pooled) -> Difference | None:
    """`arm` minus `baseline` (each seed -> value); None if either has no defined value."""
    ours, theirs = _defined(arm), _defined(baseline)
    if not ours or not theirs:
        return None
    value = math.fsum(ours.values()) / len(ours) - math.fsum(theirs.values()) / len(theirs)
    seeds = sorted(set(ours) & set(theirs))
    paired_sd = summarize([ours[seed] - theirs[seed] for seed in seeds]).sd
    if noise.sd is None:
        return Difference(value, None, None, len(seeds), paired_sd)
    error = noise.sd * math.sqrt(1 / len(ours) + 1 / len(theirs))
    half = t_quantile(CONFIDENCE, noise.df) * error
    return Difference(value, value - half, value + half, len(seeds), paired_sd, _two_sided(value, error, noise.df))


def corrected_by_holm(differences: Mapping[str, Difference | None]) -> dict[str, Difference | None]:
    """The differences with their p corrected for how many they are (Holm 1979, step-down): name -> difference."""
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


def detectable(noise: Pooled, counts: Sequence[int]) -> float | None:
    """The difference of two arms with so many seeds each that is told apart with POWER; None if not known.

    Without correction: t at 1 - (1 - CONFIDENCE) / 2, plus t at POWER, in standard errors of the difference.
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
    keys = [key for key in ours if key in theirs]
    logs = summarize([math.log(ours[key] / theirs[key]) for key in keys])
    if logs.mean is None:
        return None
    if logs.sd is None:
        return Ratio(math.exp(logs.mean), None, None, logs.n, None)
    half = t_quantile(CONFIDENCE, logs.n - 1) * logs.sd / math.sqrt(logs.n)
    return Ratio(math.exp(logs.mean), math.exp(logs.mean - half), math.exp(logs.mean + half), logs.n, logs.sd)


@cache
def t_quantile(confidence: float, df: float) -> float:
    """Half-width of the central interval of Student's t, in standard errors."""
    return float(stdtrit(df, (1 + confidence) / 2))


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean over a centred window of `width` points, cut short at both ends; undefined points are left out."""
    known = np.isfinite(values)
    sums, counts = (np.concatenate([[0.0], np.cumsum(each)]) for each in (np.where(known, values, 0.0), known))
    first = np.maximum(np.arange(len(values)) - (width - 1) // 2, 0)
    last = np.minimum(np.arange(len(values)) + width // 2 + 1, len(values))
    total, count = sums[last] - sums[first], counts[last] - counts[first]
    return [float(value) for value in np.where(count > 0, total / np.maximum(count, 1), math.nan)]


def mean(values: Sequence[float]) -> float:
    """Of values that are all defined; NaN without any."""
    return math.fsum(values) / len(values) if values else math.nan


def _defined(values: Mapping[int, float]) -> dict[int, float]:
    return {key: float(value) for key, value in values.items() if finite([value])}


def _squares(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values)

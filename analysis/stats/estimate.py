"""An estimate with its two noises, between seeds and over images: intervals, tests and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit  # importing scipy.stats takes a second

from analysis.stats.seeds import ALPHA, CONFIDENCE, PooledSd, t_quantile

POWER = 0.80


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of runs: a mean, a difference or an effect. `analysis.stats.blocks` makes them.

    Attributes:
        value: the estimate.
        spread: the sum of the squared weights; 1/n for the mean of n runs, 2/n for a difference of two.
        noise: the sd of a run between seeds. Its sd is None if the runs cannot show it.
        images: the variance that the choice of images adds; None if it was not computed.
        images_df: its degrees of freedom.
        corrected: the two-sided p after Holm's correction; None without correction.
    """

    value: float
    spread: float
    noise: PooledSd
    images: float | None = None
    images_df: int = 0
    corrected: float | None = None

    @property
    def error(self) -> float | None:
        """The standard error of both noises; None if that between seeds is unknown."""
        return None if self._seeds is None else math.sqrt(self._seeds + (self.images or 0.0))

    @property
    def df(self) -> float:
        """The degrees of freedom of `error`, by Welch and Satterthwaite."""
        seeds, images = self._seeds or 0.0, self.images or 0.0
        if images == 0:
            return self.noise.df
        return (seeds + images) ** 2 / (seeds**2 / self.noise.df + images**2 / self.images_df)

    @property
    def low(self) -> float | None:
        return self.interval()[0]

    @property
    def high(self) -> float | None:
        return self.interval()[1]

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | tuple[None, None]:
        """The t interval; (None, None) if the noise between seeds is unknown."""
        if self.error is None:
            return None, None
        half = t_quantile(confidence, self.df) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """Two-sided, of a true value of 0."""
        return None if self.error is None else 2 * self._tail(abs(self.value), self.error)

    @property
    def deciding_p(self) -> float | None:
        """The corrected p if there is one, else p."""
        return self.p if self.corrected is None else self.corrected

    @property
    def is_significant(self) -> bool | None:
        """Whether the estimate differs from 0; None if the noise is unknown."""
        return None if self.deciding_p is None else self.deciding_p < ALPHA

    def p_within(self, margin: float) -> float | None:
        """TOST: the larger p of the two tests that the true value is not below -margin and not above margin."""
        return None if self.error is None else self._tail(margin - abs(self.value), self.error)

    def p_beyond(self, margin: float) -> float | None:
        """One-sided, of a true value that is within the margin."""
        return None if self.error is None else self._tail(abs(self.value) - margin, self.error)

    @property
    def detectable(self) -> float | None:
        """The true value that is found significant with probability POWER, without correction."""
        if self.error is None:
            return None
        return self.error * (t_quantile(CONFIDENCE, self.df) + float(stdtrit(self.df, POWER)))

    def with_more_seeds(self, more: int, arms: int) -> Estimate:
        """The same difference, as if each of the `arms` had `more` further seeds: less noise between seeds alone."""
        spread = 1 / (1 / self.spread + more / 2)
        return replace(self, spread=spread, noise=replace(self.noise, df=self.noise.df + more * (arms - 1)))

    @property
    def _seeds(self) -> float | None:
        """The variance between seeds."""
        return None if self.noise.sd is None else self.noise.sd**2 * self.spread

    def _tail(self, distance: float, error: float) -> float:
        """The probability that Student's t is above distance / error. Without noise: 0 above 0, and 1/2 at 0."""
        if error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(stdtr(self.df, -distance / error))


def correct_by_holm(estimates: Mapping[str, Estimate | None]) -> dict[str, Estimate | None]:
    """The estimates of one family with p corrected for their number (Holm 1979, step-down)."""
    known = {name: found.p for name, found in estimates.items() if found is not None and found.p is not None}
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(known, key=lambda name: known[name])):
        largest = max(largest, min(1.0, (len(known) - rank) * known[name]))
        corrected[name] = largest
    return {
        name: replace(found, corrected=corrected[name]) if found is not None and name in corrected else found
        for name, found in estimates.items()
    }

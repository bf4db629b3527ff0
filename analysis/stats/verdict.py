"""The rule by which measured seeds decide a printed number, in points of AP.

With the printed number c, the mean m of n seeds, D = |m - c|, the margin d, and the sd s with df degrees of freedom,
the verdict is

    REPRODUCED          if D + t(.95, df) s / sqrt(n) <= d
    NOT REPRODUCED      else if c - m > max(d, t(.975, df) s sqrt(1 + 1/n) + 0.05)
    HIGHER THAN CLAIMED else if m - c is
    INCONCLUSIVE        otherwise

s combines the sd s_pooled of the grid's arms on f degrees of freedom with a prior sd s0 (PRIOR_SDS) that counts as
nu0 = 10 degrees of freedom, because two or three seeds say little about their own noise:

    s^2 = (nu0 s0^2 + f s_pooled^2) / (nu0 + f),  df = nu0 + f

The second bound is the prediction interval of one more run, plus half a printed digit: the printed number is a single
run. For a difference of two arms, 1/n is the sum over both, and the printed side counts two runs and two digits.

n is fixed before the runs. If seeds were added after results were known, the verdict is a further look at the same
claim, and each look halves the errors that both quantiles allow: .95 and .975 become .975 and .9875 at the second look.
All looks together then err at most twice as often as one. docs/operating-characteristics.md tabulates the rule.

Two sets of runs are compared by the same rule: D is the difference of their means, 1/n the sum over both, and nothing
is printed or rounded. A result that differs in either direction is NOT REPRODUCED. See
`analysis.stats.replication`.

Evaluating released weights again has no seed noise: m equals the printed number up to rounding. The margin is half a
printed digit:

    REPRODUCED          if |m - c| <= 0.05
    NOT REPRODUCED      else if c - m > 0.05
    HIGHER THAN CLAIMED otherwise

A timing is a ratio of paired blocks with its 90% t interval [low, high], computed on the logarithm. With the declared
limits below, the verdict is

    REPRODUCED          if low and high are within the limits
    NOT REPRODUCED      else if the whole interval is beyond the limit on the claim's bad side (HIGHER on the other)
    INCONCLUSIVE        otherwise

"No extra overhead" has one limit, OVERHEAD = 1.05, from above: half an hour of nine hours of training. The 90% interval
ends at a one-sided 95% bound: a true overhead at the limit or above passes in 1 of 20 measurements. For a printed
ratio of two speeds the limits are SPEED = 1.10 times the ratio and 1 / 1.10 of it: another GPU changes the ratio, and a
detector that is no faster at all is beyond the limits of the smallest printed ratio, 1.24. Both are declared, not
derived.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from analysis.stats.seeds import PooledSd, Ratio, Summary, t_quantile

REPRODUCED = "REPRODUCED"
NOT_REPRODUCED = "NOT REPRODUCED"
HIGHER = "HIGHER THAN CLAIMED"
INCONCLUSIVE = "INCONCLUSIVE"
NOT_COMPARABLE = "NOT COMPARABLE"
NOT_RUN = "NOT RUN"

# The sd between seeds on COCO before any is measured, in points of AP. Rounded up from the sds of 13 pairs of runs of
# DeFCN's R50-FPN configs (AP 0.09, AP50 0.11, AP75 0.19, APs 0.45, APm 0.22, APl 0.37) and of 5 seeds of detectron2's
# ViTDet (AP 0.10). None is published for AP90, declared as twice AP's, nor for masks, taken as for boxes. AP60, AP70
# and AP80 are between their neighbours.
PRIOR_SDS = {
    **{"AP": 0.15, "AP50": 0.15, "AP60": 0.15, "AP70": 0.20, "AP75": 0.25, "AP80": 0.25, "AP90": 0.30},
    **{"APs": 0.50, "APm": 0.25, "APl": 0.40},
    **{"segm_AP": 0.15, "segm_AP50": 0.15, "segm_AP75": 0.25},
}
PRIOR_DF = 10  # nu0; the published pairs would justify about 17 at a smaller sd
MARGIN_AP = 0.5
MARGIN_RETEST = 0.05
MOST_SEEDS = 30
OVERHEAD = 1.05
SPEED = 1.10
MOST_BLOCKS = 1000
_HALF_DIGIT = 0.05
_ROUNDING = 1e-9  # 38.95 - 38.9 is above 0.05 in floating point


@dataclass(frozen=True)
class Decision:
    """A verdict.

    Attributes:
        more: the number of additional seeds (of each arm) or blocks that would decide, if mean and noise stay as they
            are; None if even `most` would not. Additional seeds are a further look.
        half_width: of the interval that REPRODUCED needs within the margin, in points; None for other rules.
    """

    verdict: str
    more: int | None = None
    unit: str = "seed"
    most: int = MOST_SEEDS
    half_width: float | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        if self.verdict != INCONCLUSIVE:
            return self.verdict
        if self.more is None:
            return f"{INCONCLUSIVE} ({self.most} more {self.unit}s would not decide)"
        return f"{INCONCLUSIVE} ({self.more} more {self.unit}{'' if self.more == 1 else 's'} would decide)"


def margin(metric: str) -> float:
    """How far from the printed number a mean may be, in points: 0.5 for AP, proportional to PRIOR_SDS for others."""
    return MARGIN_AP * PRIOR_SDS[metric] / PRIOR_SDS["AP"]


def with_prior(metric: str, noise: PooledSd) -> PooledSd:
    """The pooled sd combined with the metric's prior sd on COCO; the prior sd alone if no arm has two seeds."""
    df = PRIOR_DF + noise.df
    squares = PRIOR_DF * PRIOR_SDS[metric] ** 2 + noise.df * (noise.sd or 0.0) ** 2
    return PooledSd(math.sqrt(squares / df), df)


def decide(metric: str, claimed: float, measured: Summary, noise: PooledSd, looks: int = 1) -> Decision:
    """The verdict on a printed value. noise: the sd pooled over the arms. looks: this one and those at fewer seeds."""
    assert measured.mean is not None
    return _decide(metric, measured.mean - claimed, noise, [measured.n], looks)


def decide_difference(
    metric: str, claimed: float, ours: Summary, theirs: Summary, noise: PooledSd, looks: int = 1
) -> Decision:
    """The verdict on a printed difference of two arms."""
    assert ours.mean is not None and theirs.mean is not None
    gap = ours.mean - theirs.mean - claimed
    return _decide(metric, gap, noise, [ours.n, theirs.n], looks)


def decide_retest(claimed: float, measured: float) -> Decision:
    """The verdict on a printed value, from an evaluation of the weights that it was printed for."""
    gap = measured - claimed
    if abs(gap) <= MARGIN_RETEST + _ROUNDING:
        return Decision(REPRODUCED)
    return Decision(HIGHER if gap > 0 else NOT_REPRODUCED)


def _decide(metric: str, gap: float, noise: PooledSd, counts: Sequence[int], looks: int) -> Decision:
    """gap: measured minus printed. counts: the number of seeds of each arm."""
    return decide_gap(gap, with_prior(metric, noise), counts, len(counts), margin(metric), looks)


def decide_gap(
    gap: float,
    noise: PooledSd,
    counts: Sequence[int],
    printed: int,
    allowed: float,
    looks: int = 1,
    fixed: Sequence[int] = (),
) -> Decision:
    """The verdict on a gap, measured minus claimed.

    Args:
        noise: the sd of one seed, which must be known.
        counts: the numbers of seeds of each measured mean, to which more could be added.
        printed: the number of printed single runs in the claimed value.
        allowed: the margin.
        fixed: the numbers of seeds of means in the claimed value.
    """
    assert noise.sd is not None

    def of(more: int, look: int) -> tuple[float, float]:
        spread = math.fsum(1 / count for count in [*(n + more for n in counts), *fixed])
        return limits(PooledSd(noise.sd, noise.df + more * len(counts)), spread, printed, allowed, look)

    confirmed, tolerated = of(0, looks)
    found, more = verdict_of(gap, confirmed, tolerated), None
    if found == INCONCLUSIVE:
        added = range(1, MOST_SEEDS + 1)
        more = next((n for n in added if verdict_of(gap, *of(n, looks + 1)) != INCONCLUSIVE), None)
    return Decision(found, more, half_width=allowed - confirmed)


def confidence(looks: int) -> float:
    """The confidence level of the interval that REPRODUCED needs within the margin: 0.90 at the first look."""
    return 1 - 0.10 * 0.5 ** (looks - 1)


def limits(noise: PooledSd, spread: float, printed: int, allowed: float, looks: int = 1) -> tuple[float, float]:
    """The largest gap that is REPRODUCED, negative if none is, and the largest that is not rejected.

    spread: the sum of 1 / n over the means. The others: see `decide_gap`.
    """
    assert noise.sd is not None
    level = confidence(looks)
    half = t_quantile(level, noise.df) * noise.sd * math.sqrt(spread)
    further = t_quantile((1 + level) / 2, noise.df) * noise.sd * math.sqrt(printed + spread) + printed * _HALF_DIGIT
    return allowed - half, max(allowed, further)


def verdict_of(gap: float, confirmed: float, tolerated: float) -> str:
    """The verdict on a gap, measured minus printed, from the result of `limits`."""
    if abs(gap) <= confirmed:
        return REPRODUCED
    if abs(gap) > tolerated:
        return HIGHER if gap > 0 else NOT_REPRODUCED
    return INCONCLUSIVE


def decide_overhead(ratio: Ratio) -> Decision:
    """The verdict on "no extra overhead", from the ratio of an arm's time or memory to the baseline's."""
    return _decide_ratio(ratio, 0.0, OVERHEAD, low_is_bad=False)


def decide_speed(ratio: Ratio, printed: float) -> Decision:
    """The verdict on a printed ratio of two speeds in images per second."""
    return _decide_ratio(ratio, printed / SPEED, printed * SPEED, low_is_bad=True)


def _decide_ratio(ratio: Ratio, least: float, most: float, low_is_bad: bool) -> Decision:
    """low_is_bad: whether a ratio below the limits fails, and one above them is HIGHER THAN CLAIMED."""
    if ratio.low is None or ratio.high is None or ratio.sd is None:
        return Decision(INCONCLUSIVE, 1, "block", MOST_BLOCKS)
    if (found := _of_interval(ratio.low, ratio.high, least, most, low_is_bad)) != INCONCLUSIVE:
        return Decision(found)
    value, sd, n = ratio.value, ratio.sd, ratio.n

    def decides(more: int) -> bool:
        factor = math.exp(t_quantile(0.90, n + more - 1) * sd / math.sqrt(n + more))
        return _of_interval(value / factor, value * factor, least, most, low_is_bad) != INCONCLUSIVE

    more = bisect_left(range(MOST_BLOCKS + 1), True, lo=1, key=decides)  # the interval only shrinks
    return Decision(INCONCLUSIVE, more if more <= MOST_BLOCKS else None, "block", MOST_BLOCKS)


def _of_interval(low: float, high: float, least: float, most: float, low_is_bad: bool) -> str:
    if least <= low and high <= most:
        return REPRODUCED
    if high < least:
        return NOT_REPRODUCED
    if low > most:
        return HIGHER if low_is_bad else NOT_REPRODUCED
    return INCONCLUSIVE

"""The rule by which measured seeds decide a printed number, in points of AP.

With the printed number c, the mean m of n seeds, the pooled sd s of the grid's arms (at least the metric's floor) with
df degrees of freedom, D = |m - c| and the margin d, the verdict is

    REPRODUCED          if D + t(.95, df) s / sqrt(n) <= d
    NOT REPRODUCED      else if c - m > max(d, t(.975, df) s sqrt(1 + 1/n) + 0.05)
    HIGHER THAN CLAIMED else if m - c is
    INCONCLUSIVE        otherwise

The second bound is the prediction interval of one more run, plus half a printed digit: the printed number is a single
run. For a difference of two arms, 1/n is the sum over both, and the printed side counts two runs and two digits.

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
from dataclasses import dataclass

from analysis.stats.seeds import PooledSd, Ratio, Summary, t_quantile

REPRODUCED = "REPRODUCED"
NOT_REPRODUCED = "NOT REPRODUCED"
HIGHER = "HIGHER THAN CLAIMED"
INCONCLUSIVE = "INCONCLUSIVE"
NOT_COMPARABLE = "NOT COMPARABLE"
NOT_RUN = "NOT RUN"

# The smallest sd between seeds that is assumed. On COCO, published or estimated from recorded pairs of runs: AP 0.09 to
# 0.10, AP50 0.11, AP75 0.19, APs 0.45, APm 0.22, APl 0.37; none for AP90. AP60, AP70, AP80: between their neighbours.
# None is published for masks: the same as for boxes.
FLOORS = {
    **{"AP": 0.15, "AP50": 0.15, "AP60": 0.15, "AP70": 0.20, "AP75": 0.25, "AP80": 0.25, "AP90": 0.30},
    **{"APs": 0.50, "APm": 0.25, "APl": 0.40},
    **{"segm_AP": 0.15, "segm_AP50": 0.15, "segm_AP75": 0.25},
}
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

    more: the number of additional seeds (of each arm) or blocks that would decide, if mean and noise stay as they are;
    None if even `most` would not.
    """

    verdict: str
    more: int | None = None
    unit: str = "seed"
    most: int = MOST_SEEDS

    @property
    def text(self) -> str:
        if self.verdict != INCONCLUSIVE:
            return self.verdict
        if self.more is None:
            return f"{INCONCLUSIVE} ({self.most} more {self.unit}s would not decide)"
        return f"{INCONCLUSIVE} ({self.more} more {self.unit}{'' if self.more == 1 else 's'} would decide)"


def margin(metric: str) -> float:
    """How far from the printed number a mean may be, in points of AP: 0.5 for AP, proportional to FLOORS for others."""
    return MARGIN_AP * FLOORS[metric] / FLOORS["AP"]


def decide(metric: str, claimed: float, measured: Summary, noise: PooledSd) -> Decision:
    """The verdict on a printed value. If no arm has two seeds, the sd is taken to be the floor, as if it were known."""
    assert measured.mean is not None
    return _decide(metric, measured.mean - claimed, noise, [measured.n])


def decide_difference(metric: str, claimed: float, ours: Summary, theirs: Summary, noise: PooledSd) -> Decision:
    """The verdict on a printed difference of two arms."""
    assert ours.mean is not None and theirs.mean is not None
    gap = ours.mean - theirs.mean - claimed
    return _decide(metric, gap, noise, [ours.n, theirs.n])


def decide_retest(claimed: float, measured: float) -> Decision:
    """The verdict on a printed value, from an evaluation of the weights that it was printed for."""
    gap = measured - claimed
    if abs(gap) <= MARGIN_RETEST + _ROUNDING:
        return Decision(REPRODUCED)
    return Decision(HIGHER if gap > 0 else NOT_REPRODUCED)


def _decide(metric: str, gap: float, noise: PooledSd, counts: Sequence[int]) -> Decision:
    """gap: measured minus printed. counts: the number of seeds of each arm."""
    sd, limit = max(FLOORS[metric], noise.sd or 0.0), margin(metric)
    verdict = _verdict(gap, sd, noise.df or math.inf, counts, limit)
    if verdict != INCONCLUSIVE:
        return Decision(verdict)
    for more in range(1, MOST_SEEDS + 1):
        df = noise.df + more * len(counts)
        if _verdict(gap, sd, df, [count + more for count in counts], limit) != INCONCLUSIVE:
            return Decision(INCONCLUSIVE, more)
    return Decision(INCONCLUSIVE)


def _verdict(gap: float, sd: float, df: float, counts: Sequence[int], limit: float) -> str:
    """df: infinite if the floor is taken for a known sd."""
    spread, printed = math.fsum(1 / count for count in counts), len(counts)
    half = t_quantile(0.90, df) * sd * math.sqrt(spread)
    further = t_quantile(0.95, df) * sd * math.sqrt(printed + spread) + printed * _HALF_DIGIT
    if abs(gap) + half <= limit:
        return REPRODUCED
    if abs(gap) > max(limit, further):
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

"""Whether the results of one set of runs reproduce in another set of the same grid: each mean, and each difference.

The two sets have the same settings and code. Machine, torch and seeds may differ. Both are evaluated on the same
images, so only the noise between seeds counts. Each result is compared as two independent samples over seeds, on their
pooled sd: the values of an arm, or the differences between two arms over the seeds that both have in a set. If all runs
of our set have the same value in the other one, there is nothing to test. See `analysis.stats.verdict` for the rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from analysis.reading.run_table import RunTable
from analysis.stats import verdict
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.seeds import PooledSd, Summary, pool_sd, summarize
from analysis.stats.verdict import Decision
from dynamic_rcnn.run.manifest import Manifest

COCO = "coco"
OTHER_DATA_MARGIN = 1.0  # points, for every metric on other data sets: less than half of the effect of both on shapes
SAME_DIGITS = "same digits"


@dataclass(frozen=True)
class Result:
    """A mean or a difference in both sets.

    Attributes:
        arms: one arm for its mean; two for the first minus the second.
        ours, theirs: over the seeds of each set; over our seeds if is_identical.
        decision: None if no set has two seeds, so that the noise is unknown.
        is_identical: whether each run of our set is in the other one with the same PRIMARY metrics.
        is_significant: whether the 95% interval of the gap excludes 0; None if the noise is unknown.
        is_within: whether the 95% interval of the set with more seeds, ours if they have as many, contains the value of
            the other set; None if that interval is unknown. It is that of the reports, for seeds and images.
    """

    arms: tuple[str, ...]
    metric: str
    ours: Summary
    theirs: Summary
    margin: float
    decision: Decision | None = None
    is_identical: bool = False
    is_significant: bool | None = None
    is_within: bool | None = None

    @property
    def gap(self) -> float:
        """Ours minus theirs."""
        assert self.ours.mean is not None and self.theirs.mean is not None
        return self.ours.mean - self.theirs.mean

    @property
    def verdict(self) -> str:
        return verdict.INCONCLUSIVE if self.decision is None else self.decision.verdict

    @property
    def text(self) -> str:
        """The verdict with its reason, if the rule was not needed or could not be used."""
        if self.is_identical:
            return f"{verdict.REPRODUCED} ({SAME_DIGITS})"
        return f"{verdict.INCONCLUSIVE} (noise unknown)" if self.decision is None else self.decision.text


@dataclass(frozen=True)
class Replication:
    """Two sets of runs of one grid.

    Attributes:
        grid: ours.
        ours: the comparison of our set.
        theirs: that of the other set; None if it does not have the grid.
        results: in table order; [] if nothing can be compared.
        left_out: why the grid, or some of its arms, cannot be compared.
    """

    grid: Manifest
    ours: Comparison
    theirs: Comparison | None
    results: list[Result]
    left_out: list[str]

    @property
    def machines(self) -> list[str]:
        """Processor and torch of our runs, and of theirs."""
        return [_machine(each) for each in (self.ours, self.theirs) if each is not None]


def replications(ours: RunTable, theirs: RunTable) -> list[Replication]:
    """One per grid that trains, in our set, and has finished runs."""
    found = []
    for grid in ours.grids:
        comparison = Comparison(ours, grid)
        if grid.trains and comparison.n_done:
            other = _counterpart(theirs, grid)
            arms, left_out = _common_arms(comparison, other) if other else ([], ["it has no runs of this grid"])
            results = list(_results(comparison, other, arms)) if other else []
            found.append(Replication(grid, comparison, other, results, left_out))
    return found


def _counterpart(theirs: RunTable, grid: Manifest) -> Comparison | None:
    """The same grid in the other set, of the same setting if there is one."""
    same = [each for each in theirs.grids if (each.dataset, each.name) == (grid.dataset, grid.name)]
    same.sort(key=lambda each: each.setting != grid.setting)
    return Comparison(theirs, same[0]) if same else None


def _common_arms(ours: Comparison, theirs: Comparison) -> tuple[list[str], list[str]]:
    """The arms that can be compared, and why others cannot."""
    here, there = (each.averaged.groupby("arm")["setting"].first().to_dict() for each in (ours, theirs))
    finished = [arm for arm in ours.grid.arms if arm in here]
    missing = [arm for arm in finished if arm not in there]
    other = [arm for arm in finished if arm in there and here[arm] != there[arm]]
    arms = [arm for arm in finished if arm not in missing and arm not in other]
    left_out = [f"it has no finished runs of {', '.join(missing)}"] if missing else []
    if other:
        settings = f"{here[other[0]]} here and {there[other[0]]} there"
        left_out.append(f"other settings: {', '.join(other)} ({other[0]}: {settings})")
    codes = [_codes(each, arms) for each in (ours, theirs)]
    if arms and (codes[0] != codes[1] or len(codes[0]) != 1):
        return [], [*left_out, f"other code: {', '.join(codes[0])} here and {', '.join(codes[1])} there"]
    return arms, left_out


def _codes(comparison: Comparison, arms: list[str]) -> list[str]:
    """The code fingerprints of the runs of `arms`."""
    runs = comparison.averaged
    return sorted({str(code) for code in runs.loc[runs["arm"].isin(arms), "code"]})


def _machine(comparison: Comparison) -> str:
    """'AMD EPYC, torch 2.14.1', as far as it is recorded."""
    runs = comparison.averaged
    processors, versions = (sorted({str(each) for each in runs[name].dropna()}) for name in ("processor", "torch"))
    return ", ".join([*processors, *(f"torch {version}" for version in versions)]) or "not recorded"


def _results(ours: Comparison, theirs: Comparison, arms: list[str]) -> Iterator[Result]:
    """The mean of each arm, its difference from its baseline, and the contrasts."""
    grid, looks = ours.grid, len(ours.grid.looks) + 1
    pairs = [(arm, grid.baseline_of(arm)) for arm in ours.others] + [pair for pair in grid.contrasts]
    pairs = [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(arms) and not ours.same_runs(*pair)]
    for chosen in [*((arm,) for arm in arms), *pairs]:
        for metric in PRIMARY:
            here, there = (_by_seed(each, metric, chosen) for each in (ours, theirs))
            if here and there:
                same = all(_are_same(ours, theirs, arm, here.keys()) for arm in chosen)
                found = _compare(chosen, metric, here, there, same, grid.dataset == COCO, looks)
                yield replace(found, is_within=_is_within(ours, theirs, found))


def _is_within(ours: Comparison, theirs: Comparison, result: Result) -> bool | None:
    larger = theirs if result.theirs.n > result.ours.n else ours
    value = (result.ours if larger is theirs else result.theirs).mean
    metric, arms = result.metric, result.arms
    if len(arms) == 1:
        estimate = larger.mean(metric, arms[0])
    elif arms[1] == larger.grid.baseline_of(arms[0]):
        estimate = larger.difference(metric, arms[0])
    else:
        estimate = larger.contrast(metric, (arms[0], arms[1])) if arms in larger.grid.contrasts else None
    low, high = estimate.interval() if estimate else (None, None)
    return None if value is None or low is None or high is None else low <= value <= high


def _are_same(ours: Comparison, theirs: Comparison, arm: str, seeds: Iterable[int]) -> bool:
    """Whether the arm's runs of these seeds have the same PRIMARY metrics in both sets, to the last bit."""
    pairs = [(ours.values(metric, arm), theirs.values(metric, arm)) for metric in PRIMARY]
    return all(here.get(seed) == there.get(seed) for here, there in pairs for seed in seeds)


def _by_seed(comparison: Comparison, metric: str, arms: tuple[str, ...]) -> dict[int, float]:
    """Seed -> value, or the difference of two arms of the same seed."""
    first, *others = (comparison.values(metric, arm) for arm in arms)
    return {
        seed: value - sum(other[seed] for other in others)
        for seed, value in first.items()
        if all(seed in other for other in others)
    }


def _compare(
    arms: tuple[str, ...],
    metric: str,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    same: bool = False,
    on_coco: bool = False,
    looks: int = 1,
) -> Result:
    """same: whether the other set has our runs with the same PRIMARY metrics. looks: see `analysis.stats.verdict`."""
    margin = verdict.margin(metric) if on_coco else OTHER_DATA_MARGIN
    here, there = summarize(ours.values()), summarize(theirs.values())
    if same:
        return Result(arms, metric, here, here, margin, Decision(verdict.REPRODUCED), same, is_significant=False)
    noise = pool_sd([ours.values(), theirs.values()])
    if on_coco:
        noise = _with_prior(metric, noise, len(arms))
    found = Result(arms, metric, here, there, margin)
    if noise.sd is None:
        return found
    decision = verdict.decide_gap(found.gap, noise, [here.n], 0, margin, looks, fixed=[there.n])
    if decision.verdict == verdict.HIGHER:
        decision = replace(decision, verdict=verdict.NOT_REPRODUCED)
    _, error = verdict.limits(noise, 1 / here.n + 1 / there.n, 0, allowed=0.0)
    return replace(found, decision=decision, is_significant=abs(found.gap) > error)


def _with_prior(metric: str, noise: PooledSd, runs: int) -> PooledSd:
    """Like `verdict.with_prior`, for the sd of one run or of a difference of two."""
    scale = math.sqrt(runs)
    known = verdict.with_prior(metric, PooledSd(None if noise.sd is None else noise.sd / scale, noise.df))
    return PooledSd((known.sd or 0.0) * scale, known.df)

"""Compares the arms of one grid in percent AP: means, differences from the baseline, contrasts, effects, equivalence.

Means and differences have one interval for the noise between seeds and over images (`analysis.stats.blocks`), and are
significant by one rule: p below 5% after Holm's correction over the comparisons of one kind in one metric.
A metric is a name of `dynamic_rcnn.metrics.names`, or an IoU threshold as a float (AP at that threshold).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import combinations

import pandas as pd

from analysis.reading.consistency import mixed_arms
from analysis.reading.run import UNREADABLE
from analysis.reading.run_table import RunTable
from analysis.stats import seeds
from analysis.stats.blocks import Blocks, Cell
from analysis.stats.deciding_grid import factorial_grid, paper_grid
from analysis.stats.equivalence import EquivalenceTest, decide_equivalence
from analysis.stats.estimate import Estimate, correct_by_holm
from analysis.stats.factorial import main_effects, simple_effects
from analysis.stats.image_noise import PERCENT, Metric, image_covariance, image_fault
from analysis.stats.seeds import PooledSd, Summary
from dynamic_rcnn.metrics.names import AP_METRICS, BOX_METRICS, MASK_METRICS
from dynamic_rcnn.run.comparisons import Equivalence
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

PRIMARY = ("AP", "AP90")  # the metrics of the paper's headline claims; all others are exploratory
PRIMARY_FIRST = (*PRIMARY, *(metric for metric in AP_METRICS if metric not in PRIMARY))


class Comparison:
    """Statistics of the finished runs of a grid. Arms with the same configuration share their runs.

    Args:
        table: the folder of runs.
        grid: one of its grids.
        all_seeds: whether to take finished runs of the grid's arms that other grids asked for, too.

    Attributes:
        runs: one row per run of the grid.
        n_done: number of finished runs.
        mixed: arms whose runs have several settings, and these settings.
        averaged: the finished runs of all other arms. Only `states` counts the rest.
        others: the arms that are not a baseline, in table order.
        image_fault: why no interval has the noise over images; None if those of boxes have.
    """

    def __init__(self, table: RunTable, grid: Manifest, all_seeds: bool = True) -> None:
        grid = table.with_all_seeds(grid) if all_seeds else grid
        self._table, self.grid = table, grid
        self.runs = table.runs_of(grid)
        finished = self.runs[self.runs["state"] == "done"]
        self.n_done = len(finished)
        self.mixed = mixed_arms(finished)
        self.averaged = finished[~finished["arm"].isin(list(self.mixed))]
        baselines = {grid.baseline, *grid.baselines.values()}
        self.others = [arm for arm in grid.arms if arm not in baselines]
        self._values = _values(table, self.averaged)
        self._blocks: dict[Metric, Blocks | None] = {}
        self._families: dict[tuple[str, Metric], dict[str, Estimate | None]] = {}
        self._paths: dict[str, dict[int, str]] = {}  # arm -> seed -> path, in table order
        for arm, seed, path in self.averaged[["arm", "seed", "path"]].itertuples(index=False):
            self._paths.setdefault(arm, {})[seed] = path
        self._states: dict[str, Counter[str]] = {arm: Counter() for arm in grid.arms}
        for arm, state, cause in self.runs[["arm", "state", "cause"]].itertuples(index=False):
            self._states[arm][describe_state(state, cause)] += 1
        self._own_arm: dict[str, str] = {}  # arm -> the first arm that has its runs
        self._cells: dict[Cell, str] = {}  # (that arm, seed) -> path
        owner: dict[str, str] = {}
        for arm, by_seed in self._paths.items():
            own = self._own_arm[arm] = next((owner[path] for path in by_seed.values() if path in owner), arm)
            owner.update(dict.fromkeys(by_seed.values(), own))
            self._cells.update({(own, seed): path for seed, path in by_seed.items()})
        self._images = table.images.get(grid.key)
        self.image_fault = image_fault(self._images, self.averaged)

    def without_seen_seeds(self) -> Comparison | None:
        """The comparison without the seen seeds; None if the grid has no seen seeds, or no others."""
        cells = [cell for cell in self.grid.cells if cell.seed not in self.grid.seen_seeds]
        if not cells or len(cells) == len(self.grid.cells):
            return None
        return Comparison(self._table, self.grid.model_copy(update={"cells": cells}), all_seeds=False)

    def values(self, metric: Metric, arm: str) -> dict[int, float]:
        """Seed -> percent, of the finished runs in which the metric is defined."""
        return self._values.get((metric, arm), {})

    @property
    def has_masks(self) -> bool:
        """Whether a finished run has metrics of masks."""
        return any(metric in MASK_METRICS for metric, _ in self._values)

    def paths(self, *arms: str) -> list[str]:
        """The runs that the means of these arms are over, in table order, each once."""
        paths = [path for arm, by_seed in self._paths.items() if arm in arms for path in by_seed.values()]
        return list(dict.fromkeys(paths))

    def paired_paths(self, arm: str, other: str, among: Collection[str] | None = None) -> tuple[list[str], list[str]]:
        """The averaged runs of two arms, of the seeds that both have.

        among: only these runs count; None for all.
        """
        found = [self._paths.get(each, {}) for each in (arm, other)]
        own = [{seed: path for seed, path in each.items() if among is None or path in among} for each in found]
        common = [seed for seed in own[0] if seed in own[1]]
        return [own[0][seed] for seed in common], [own[1][seed] for seed in common]

    def summary(self, metric: Metric, arm: str) -> Summary:
        return seeds.summarize(self.values(metric, arm).values())

    def noise(self, metric: Metric) -> PooledSd:
        """The sd pooled over all arms of the grid; a run that several arms share counts once."""
        groups: dict[str, list[float]] = {}
        for (arm, _), value in self._runs(metric).items():
            groups.setdefault(arm, []).append(value)
        return seeds.pool_sd(groups.values())

    def blocks(self, metric: Metric) -> Blocks | None:
        """The runs of all arms as randomised blocks; None if the metric is defined in none."""
        if metric not in self._blocks:
            values = self._runs(metric)
            paths = [self._cells[cell] for cell in values]
            images = None if self.image_fault or self._images is None else image_covariance(self._images, metric, paths)
            self._blocks[metric] = Blocks(values, *images or ()) if values else None
        return self._blocks[metric]

    def sd_within_arms(self, metric: Metric) -> PooledSd:
        """The sd between seeds that the mean of an arm has; unknown with one seed per arm."""
        blocks = self.blocks(metric)
        return blocks.level if blocks else PooledSd(None, 0)

    def sd_within_blocks(self, metric: Metric) -> PooledSd:
        """The sd between seeds that differences have; unknown with one seed per arm."""
        blocks = self.blocks(metric)
        return blocks.residual if blocks else PooledSd(None, 0)

    def has_images(self, metric: Metric) -> bool:
        """Whether the intervals of a metric have the noise over images."""
        blocks = self.blocks(metric)
        return blocks is not None and blocks.has_images

    def mean(self, metric: Metric, arm: str) -> Estimate | None:
        """The mean of an arm; None if it has no value."""
        blocks = self.blocks(metric)
        cells = [(self._own_arm[arm], seed) for seed in self.values(metric, arm)]
        return None if blocks is None else blocks.mean(cells)

    def same_runs(self, arm: str, other: str | None = None) -> bool:
        """Whether two arms share runs, and thus are one configuration. other: None for the arm's baseline."""
        ours, theirs = (self._own_arm.get(each) for each in (arm, other or self.grid.baseline_of(arm)))
        return ours is not None and ours == theirs

    def difference(self, metric: Metric, arm: str) -> Estimate | None:
        """The arm minus its baseline, corrected for the number of arms.

        None if either has no finished run, if no seeds connect them, or if they are the same runs.
        """
        pairs = {name: {name: 1.0, self.grid.baseline_of(name): -1.0} for name in self.others}
        return self._family("arms", metric, pairs).get(arm)

    def contrast(self, metric: Metric, pair: tuple[str, str]) -> Estimate | None:
        """The first arm minus the second one, corrected for the number of contrasts. None: see `difference`.

        Of an arm and its baseline: `difference`, so that no two arms are tested twice.
        """
        first, second = pair
        if self._is_from_baseline(first, second):
            return self.difference(metric, first)
        if self._is_from_baseline(second, first):
            found = self.difference(metric, second)
            return replace(found, value=-found.value) if found else None
        pairs = {
            " ".join(each): {each[0]: 1.0, each[1]: -1.0}
            for each in self.grid.contrasts
            if not self._is_from_baseline(*each) and not self._is_from_baseline(*reversed(each))
        }
        return self._family("contrasts", metric, pairs)[" ".join(pair)]

    @property
    def factorial_grid(self) -> Manifest | None:
        """The grid that has the tables of this grid's factorial, see `deciding_grid`; None without a factorial."""
        return factorial_grid(self._table.grids, self.grid) if self.grid.factorial else None

    @property
    def shows_factorial(self) -> bool:
        """Whether this grid has a factorial and no other grid shows it."""
        owner = self.factorial_grid
        return owner is not None and owner.key == self.grid.key

    def paper_grid(self, arm: str) -> Manifest:
        """The grid that compares the arm's difference from its baseline with the paper's, see `deciding_grid`."""
        return paper_grid(self._table.grids, self.grid, arm)

    def effects(self, metric: Metric) -> dict[str, Estimate | None]:
        """The main effects and the interaction of the grid's factors, corrected together; {} without factors."""
        return self._family("effects", metric, main_effects(self.grid))

    def simple_effects(self, metric: Metric) -> dict[str, Estimate | None]:
        """Each factor's effect without and given the other one, not corrected; {} without factors.

        Without those that are the difference of an arm from its baseline, or a contrast: they are tested there.
        """
        shown = {name: each for name, each in simple_effects(self.grid).items() if not self._has_own_table(each)}
        return {name: self.estimate(metric, each) for name, each in shown.items()}

    def estimate(self, metric: Metric, coefficients: Mapping[str, float]) -> Estimate | None:
        """A contrast of arms whose coefficients sum to 0, not corrected. None: see `difference`."""
        blocks = self.blocks(metric)
        if blocks is None or not coefficients.keys() <= self._own_arm.keys():
            return None
        own = {self._own_arm[arm]: value for arm, value in coefficients.items()}
        return blocks.contrast(own) if len(own) == len(coefficients) else None

    def equivalence(self, claim: Equivalence, metric: str) -> EquivalenceTest | None:
        """Whether no two arms of the claim differ by more than its margin; None if a difference is not known."""
        pairs = list(combinations(claim.arms, 2))
        found = {pair: self.estimate(metric, {pair[0]: 1.0, pair[1]: -1.0}) for pair in pairs}
        known = {pair: each for pair, each in found.items() if each is not None}
        return decide_equivalence(known, len(claim.arms), claim.margins[metric]) if len(known) == len(found) else None

    def _is_from_baseline(self, arm: str, other: str) -> bool:
        """Whether `difference` of `arm` is that from `other`."""
        return arm in self.others and self.grid.baseline_of(arm) == other

    def _has_own_table(self, coefficients: Mapping[str, float]) -> bool:
        """Whether a difference of two arms is one from a baseline or a contrast, whatever its sign."""
        first, second = sorted(coefficients, key=lambda arm: coefficients[arm])
        pairs = [(first, second), (second, first)]
        return any(self._is_from_baseline(*pair) or pair in self.grid.contrasts for pair in pairs)

    def _family(self, kind: str, metric: Metric, contrasts: dict[str, dict[str, float]]) -> dict[str, Estimate | None]:
        """The contrasts of one kind in one metric, corrected for their number (Holm)."""
        if (kind, metric) not in self._families:
            found = {name: self.estimate(metric, each) for name, each in contrasts.items()}
            self._families[kind, metric] = correct_by_holm(found)
        return self._families[kind, metric]

    def _runs(self, metric: Metric) -> dict[Cell, float]:
        """(arm, seed) -> percent, each run once: as one of the first arm that has it."""
        return {
            (self._own_arm[arm], seed): value
            for arm in self.grid.arms
            for seed, value in self.values(metric, arm).items()
        }

    def states(self, arm: str) -> list[tuple[str, int]]:
        """The states of the arm's runs with their causes, and how many runs have each; done first."""
        return sorted(self._states[arm].items(), key=lambda item: (item[0] != "done", item[0]))

    @property
    def curves(self) -> pd.DataFrame:
        """The logged iterations of the grid's runs, finished or not."""
        return self._table.curves[self._table.curves["path"].isin(self.runs["path"])]

    def seeds_text(self) -> str:
        """The number of finished seeds: '3 seeds per arm', or the range."""
        counts = [self.summary("AP", arm).n for arm in self.grid.arms]
        low, high = min(counts), max(counts)
        return f"{low} to {high} seeds per arm" if low != high else f"{plural('seed', low)} per arm"


def describe_state(state: object, cause: object) -> str:
    """'failed (NaN)', 'done', 'missing'."""
    return f"{state} ({cause})" if isinstance(cause, str) and state != "done" else str(state)


def is_lost(state: str) -> bool:
    """Whether a described state is failed or unreadable, so that the remaining runs are a selection."""
    return state.startswith(("failed", UNREADABLE))


def _values(table: RunTable, runs: pd.DataFrame) -> dict[tuple[Metric, str], dict[int, float]]:
    """(metric, arm) -> seed -> percent."""
    names, keys = [*BOX_METRICS, *MASK_METRICS], ["arm", "seed", "path"]
    by_name = runs.melt(keys, names, "metric", "score")
    by_iou = runs[keys].merge(table.thresholds.rename(columns={"iou": "metric", "AP": "score"}), on="path")
    values: dict[tuple[Metric, str], dict[int, float]] = {}
    for frame in (by_name, by_iou):
        known = frame[frame["score"].notna()]
        for arm, seed, metric, score in zip(*(known[name] for name in ("arm", "seed", "metric", "score")), strict=True):
            values.setdefault((metric, arm), {})[int(seed)] = PERCENT * float(score)
    return values

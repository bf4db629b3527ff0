"""Statistics of timing runs: ratios of paired blocks, and the verdict on "no extra overhead".

The blocks of two arms are paired by run and round: those of a round had the same inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from analysis.reading.run_table import RunTable
from analysis.stats import verdict
from analysis.stats.seeds import Ratio, paired_ratio
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.run.results import INFERENCE, TRAINING

IMAGES_PER_SECOND = "images_per_second"  # the metric of the paper's rows
RESPECTS = (  # name, part of a run, quantity
    ("training time", TRAINING, "seconds"),
    ("training memory", TRAINING, "peaks"),
    ("inference time", INFERENCE, "seconds"),
)


@dataclass(frozen=True)
class CostRatio:
    """What an arm costs in one respect, relative to its baseline. ratio: None if it was not measured."""

    name: str
    ratio: Ratio | None

    @property
    def decision(self) -> verdict.Decision | None:
        return None if self.ratio is None else verdict.decide_overhead(self.ratio)


class TimingComparison:
    """The arms that the finished timing runs of a grid time.

    Attributes:
        runs: one row per run of the grid.
        paths, results: of the finished runs.
        n_done: number of finished runs.
        arms: name -> title of the timed arms. baseline: one of them; "" if no run is finished.
    """

    def __init__(self, table: RunTable, grid: Manifest) -> None:
        self.grid = grid
        self.runs = table.runs_of(grid)
        finished = self.runs.loc[self.runs["state"] == "done", "path"]
        self.paths: list[str] = [path for path in finished if path in table.timings]
        self.results = [table.timings[path] for path in self.paths]
        self.n_done = len(self.paths)
        self.arms = grid.timed_arms or {}
        self.baseline = self.results[0].baseline if self.results else ""

    def seconds(self, part: str, arm: str) -> float | None:
        """Median over the blocks of the seconds per iteration (TRAINING) or image (INFERENCE)."""
        values = self._blocks(part, "seconds", arm).values()
        return median(values) if values else None

    def peak(self, part: str, arm: str) -> float | None:
        """The largest number of bytes allocated in a block; None on a CPU."""
        return max(self._blocks(part, "peaks", arm).values(), default=None)

    def mean(self, field: str, arm: str) -> float:
        """Mean over the runs of "proposals" or "detections" per image."""
        return sum(getattr(run.inference, field)[arm] for run in self.results) / len(self.results)

    def ratio(self, part: str, quantity: str, arm: str, other: str) -> Ratio | None:
        """`arm` over `other` in "seconds" or "peaks"; None if either was not measured."""
        return paired_ratio(self._blocks(part, quantity, arm), self._blocks(part, quantity, other))

    def same_network(self, arm: str, other: str) -> bool:
        """Whether every run found the two arms to be the same network at inference."""
        return all(run.same_network(arm, other) for run in self.results)

    def costs(self, arm: str) -> list[CostRatio]:
        """Training time, training memory and inference time of `arm` relative to the baseline."""
        return [CostRatio(name, self.ratio(part, quantity, arm, self.baseline)) for name, part, quantity in RESPECTS]

    def _blocks(self, part: str, quantity: str, arm: str) -> dict[tuple[int, int], float]:
        """(run, round) -> value."""
        return {
            (index, number): value
            for index, run in enumerate(self.results)
            for number, value in getattr(getattr(run, part), quantity).get(arm, {}).items()
        }


def counted_costs(costs: list[CostRatio], same_network: bool) -> list[CostRatio]:
    """Without inference time if both arms are the same network at inference, whose time cannot differ."""
    return costs[:2] if same_network else costs


def overhead_verdict(counted: list[CostRatio]) -> str:
    """The verdict on the costs that count, together."""
    verdicts = [cost.decision.verdict if cost.decision else None for cost in counted]
    if verdict.NOT_REPRODUCED in verdicts:
        return verdict.NOT_REPRODUCED
    return verdict.REPRODUCED if set(verdicts) == {verdict.REPRODUCED} else verdict.INCONCLUSIVE

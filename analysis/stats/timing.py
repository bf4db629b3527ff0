"""What timing runs show: ratios of paired blocks, and the verdicts on "no extra overhead" and on Table 6.

A ratio is of two arms' blocks of the same round, which had the same inputs; `verdict` has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from analysis.reading.manifest import Grid
from analysis.reading.records import Records
from analysis.stats import verdict
from analysis.stats.seeds import Ratio, paired_ratio
from dynamic_rcnn.run.timing_results import INFERENCE, TRAINING, Part

IMAGES_PER_SECOND = "images_per_second"  # of the paper's rows


@dataclass(frozen=True)
class Cost:
    """What an arm costs in one respect: its ratio to the baseline, None where there is none."""

    name: str
    ratio: Ratio | None

    @property
    def decision(self) -> verdict.Decision | None:
        return None if self.ratio is None else verdict.decide_overhead(self.ratio)


class Speed:
    """The finished timing runs of a grid, with their blocks together."""

    def __init__(self, records: Records, grid: Grid) -> None:
        self.grid = grid
        self.runs = records.of(grid)
        done = records.done(grid)
        done = done[done["path"].isin(list(records.timings))]
        self.n_done = len(done)
        self.paths: list[str] = done["path"].tolist()
        self.found = [records.timings[path] for path in self.paths]
        self.baseline = self.found[0].baseline if self.found else ""

    @property
    def arms(self) -> dict[str, str]:
        """The timed arms and their titles."""
        return self.grid.timed_arms or {}

    def seconds(self, part: str, arm: str) -> float | None:
        """Median over the blocks: of an iteration, or of an image."""
        values = self._blocks(part, "seconds", arm).values()
        return median(values) if values else None

    def peak(self, part: str, arm: str) -> float | None:
        """The most bytes of any block; None on a CPU."""
        return max(self._blocks(part, "peaks", arm).values(), default=None)

    def mean(self, field: str, arm: str) -> float:
        """Over the runs: a field by arm of the inference part."""
        return sum(run.inference.content[field][arm] for run in self.found) / len(self.found)

    def ratio(self, part: str, what: str, arm: str, other: str) -> Ratio | None:
        """`arm` over `other` in "seconds" or "peaks"; None where either was not measured."""
        return paired_ratio(self._blocks(part, what, arm), self._blocks(part, what, other))

    def same_network(self, arm: str, other: str) -> bool:
        """Whether every run found the two to be one network at inference."""
        return all(run.same_network(arm, other) for run in self.found)

    def costs(self, arm: str) -> list[Cost]:
        """Of an arm against the baseline: training time and memory, time of inference."""
        respects = (
            ("training time", TRAINING, "seconds"),
            ("training memory", TRAINING, "peaks"),
            ("inference time", INFERENCE, "seconds"),
        )
        return [Cost(name, self.ratio(part, what, arm, self.baseline)) for name, part, what in respects]

    def _blocks(self, part: str, what: str, arm: str) -> dict[tuple[int, int], float]:
        """(run, round) -> value."""
        return {
            (index, round_): value
            for index, run in enumerate(self.found)
            for round_, value in self._values(run.training if part == TRAINING else run.inference, what, arm).items()
        }

    @staticmethod
    def _values(part: Part, what: str, arm: str) -> dict[int, float]:
        return (part.seconds if what == "seconds" else part.peaks).get(arm, {})


def overhead_verdict(costs: list[Cost], same_network: bool) -> str:
    """Of training time, training memory and inference time together.

    Where both arms are one network at inference its time cannot differ: the measured ratio decides nothing there.
    """
    counted = costs[:2] if same_network else costs
    decisions = [cost.decision for cost in counted]
    if any(each is not None and each.verdict == verdict.NOT_REPRODUCED for each in decisions):
        return verdict.NOT_REPRODUCED
    if all(each is not None and each.verdict == verdict.REPRODUCED for each in decisions):
        return verdict.REPRODUCED
    return verdict.INCONCLUSIVE

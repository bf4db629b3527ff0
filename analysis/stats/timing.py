"""What timing runs show: ratios of paired blocks, and the verdicts on "no extra overhead" and on Table 6.

A ratio is of two arms' blocks of the same round, which had the same inputs. It counts on COCO, on a GPU, in the
published setting; `verdict` has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from analysis.reading.manifest import Grid
from analysis.reading.records import Records
from analysis.rendering.markup import escape, number
from analysis.sections.claims import ARM, COCO, deviation
from analysis.stats import verdict
from analysis.stats.comparison import describe_state, is_lost
from analysis.stats.seeds import LEVEL, Ratio, paired_ratio
from analysis.wording import plural
from dynamic_rcnn.run.timing_results import CPU, INFERENCE, TRAINING, Part

IMAGES_PER_SECOND = "images_per_second"  # of the paper's rows
PAIRS = (("both", "cascade"), ("dynamic_mask", "cascade_mask"))  # whose published ratios are compared
NO_MEMORY = "a CPU has no such number"


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

    @property
    def incomplete(self) -> str | None:
        """Why comparable runs decide nothing: some are lost (the others are a selection), or are not done."""
        states = [describe_state(row.state, row.cause) for row in self.runs.itertuples()]
        lost = [state for state in states if is_lost(state)]
        if lost:
            listed = f"{plural('run', len(lost))} {escape(lost[0])}"
            return f"{verdict.NOT_COMPARABLE}: {listed}; the others are a selection"
        left = len(states) - states.count("done")
        return f"{verdict.INCONCLUSIVE}: {plural('run', left)} not done yet" if left else None

    @property
    def reason(self) -> str | None:
        """Why nothing here can be held against the paper, as Markdown; None if it can."""
        parts = [f"on {escape(self.grid.dataset)}"] if self.grid.dataset != COCO else []
        parts += ["on a CPU"] if any(run.device == CPU for run in self.found) else []
        other = deviation(self.grid) if self.grid.dataset == COCO else None
        return ", ".join([*parts, *filter(None, [other])]) or None

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


def overhead_texts(speeds: list[Speed]) -> list[str]:
    """What is known of "no extra overhead": the verdicts, else NOT RUN; then what cannot be compared."""
    measured = [speed for speed in speeds if speed.n_done and ARM in speed.arms]
    decided = [overhead_text(speed) for speed in measured if speed.reason is None]
    others = [overhead_text(speed) for speed in measured if speed.reason is not None]
    return [*(decided or [f"**{verdict.NOT_RUN}**"]), *others]


def overhead_text(speed: Speed) -> str:
    """The verdict, or why there is none, and the three ratios that it is made of."""
    costs, same = speed.costs(ARM), speed.same_network(ARM, speed.baseline)
    said = "; ".join(_cost_text(cost, speed.reason is None, same) for cost in costs)
    if speed.reason is not None:
        return f"{verdict.NOT_COMPARABLE}: {speed.reason}: {said}"
    return f"**{speed.incomplete or overhead_verdict(costs, same)}**: {said}; margin {verdict.OVERHEAD}"


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


def _cost_text(cost: Cost, decides: bool, same_network: bool) -> str:
    network = "the same network, " if same_network and cost.name.startswith("inference") else ""
    if cost.ratio is None or cost.decision is None:
        return f"{cost.name}: not measured"
    shown = f"{network}{ratio_text(cost.ratio)} ({plural('block', cost.ratio.n)})"
    return f"{cost.name} {cost.decision.text}: {shown}" if decides and not network else f"{cost.name}: {shown}"


def ratio_text(ratio: Ratio) -> str:
    """'1.012 times the baseline's, 90% interval [1.003, 1.021]'."""
    return f"{number(ratio.value, 3)} times the baseline's, {LEVEL} interval {limits(ratio)}"


def limits(ratio: Ratio) -> str:
    """'[1.003, 1.021]'."""
    return f"[{number(ratio.low, 3)}, {number(ratio.high, 3)}]"

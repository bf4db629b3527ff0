"""The paper's headline claims as data, and the verdict on each. Only COCO runs in the published setting count.

`analysis.stats.verdict` has the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.rendering.model import Row, Table, TableCell, table
from analysis.rendering.text import BREAK, Line, Text, code, interval, join, mean_sd, number, signed, strong
from analysis.sections.comparability import COCO, deviation, incomplete, looks_text
from analysis.stats import training_curves, verdict
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL
from analysis.stats.verdict import Decision
from dynamic_rcnn.run import published_curves
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

ABLATION = "ablation"
FULL_METHOD = "both"  # the arm with both components, in the grids that have one
SOURCE = "arXiv 2004.06002"
RELEASED = "62a3f276"  # the first digits of the sha256 of mmdet's weights
PUBLISHED_METHOD = {"label_assignment": True, "smooth_l1": True, "iou_topk": 75, "beta_topk": 10}


def coco_command(grid: str) -> str:
    """The command that runs `grid` on COCO."""
    return f"python experiments/launch.py grid={grid} dataset=coco dataset.root=/data/coco"


@dataclass(frozen=True)
class PaperClaim:
    """A claim of the paper.

    Attributes:
        kind: value (a metric of the arm), difference (from its baseline), retest (of published weights), overhead,
            trajectory or trends.
        printed: the printed number, in points of AP; 0 if the claim is not a number.
        grid, arm: whose runs decide it.
        options: further arguments of the command that runs the grid.
        weights: for a retest, the first digits of the sha256 of the weights.
        ports: other printed values of the same model and setting, with their sources. Each gets a verdict of its own.
    """

    text: str
    kind: str
    metric: str
    source: str
    printed: float
    grid: str = ABLATION
    arm: str = FULL_METHOD
    options: str = ""
    weights: str | None = None
    ports: tuple[tuple[float, str], ...] = ()

    @property
    def sources(self) -> Line:
        """Where the claim is printed, and other values that are printed for the same model."""
        return join(BREAK, [self.source, *(f"{printed}: {source}" for printed, source in self.ports)])

    def arms(self, grid: Manifest) -> list[str]:
        """The arms whose runs decide the claim."""
        return [self.arm, grid.baseline] if self.kind == "difference" else [self.arm]


PORTS = ((38.8, "the author's port to mmdet v1.1 (hkzhang95/DynamicRCNN-mmdetV1.1), minival"),)
CLAIMS = (
    PaperClaim("38.9 AP", "value", "AP", f"{SOURCE}, abstract, Table 2; mmdet's released model", 38.9, ports=PORTS),
    PaperClaim("+1.9 AP over the baseline", "difference", "AP", f"{SOURCE}, abstract, Table 2", 1.9),
    PaperClaim("+5.5 AP90 over the baseline", "difference", "AP90", f"{SOURCE}, abstract, Table 2", 5.5),
    PaperClaim("no extra overhead", "overhead", "", f"{SOURCE}, abstract", 0.0, grid="speed"),
    PaperClaim("T at iterations 100 to 500", "trajectory", "", published_curves.SOURCE, 0.0),
    PaperClaim("T and beta move and end as in Figure 5", "trends", "", published_curves.FIGURE_SOURCE, 0.0),
    PaperClaim(
        *("38.9 AP, released weights re-tested", "retest", "AP", "mmdet's released model, one run", 38.9),
        grid="released",
        arm="released",
        options=f" weights=/data/dynamic_rcnn_r50_fpn_1x-{RELEASED}.pth",
        weights=RELEASED,
    ),
)


def claims_table(comparisons: list[Comparison], overhead: list[Line]) -> Table:
    """The verdict on each claim and the grid that decides it. overhead: the verdicts on "no extra overhead"."""
    rows: list[Row] = []
    for claim in CLAIMS:
        cell = TableCell(join(BREAK, overhead)) if claim.kind == "overhead" else _verdict_cell(claim, comparisons)
        rows.append([claim.text, claim.sources, cell, code(claim.grid)])
    return table(["claim (COCO val2017, R-50-FPN, 1x)", "source", "verdict", "grid"], rows, text_columns=4)


def verdict_on(claim: PaperClaim, comparisons: list[Comparison]) -> Text:
    """The verdict with what was measured, and settings that do not count; NOT RUN if there is nothing."""
    return _verdict_cell(claim, comparisons).text


def _verdict_cell(claim: PaperClaim, comparisons: list[Comparison]) -> TableCell:
    decided: list[Line] = []
    others: list[Line] = []
    runs: list[str] = []
    for comparison in comparisons:
        text, grid = measured_text(claim, comparison), comparison.grid
        if text is None:
            continue
        if reason := deviation(grid, claim.weights):
            others.append(f"{verdict.NOT_COMPARABLE}: setting " + code(grid.setting) + ", " + reason)
        else:
            decided.append(text)
            runs += comparison.paths(*claim.arms(grid))
    return TableCell(join(BREAK, [*(decided or [strong(verdict.NOT_RUN)]), *others]), runs)


def measured_text(claim: PaperClaim, comparison: Comparison) -> Line | None:
    """The verdict and what was measured; None for another grid or data set, and while nothing is known."""
    grid = comparison.grid
    if grid.dataset != COCO or grid.name != claim.grid or claim.arm not in grid.arms:
        return None
    if grid.trains == (claim.kind == "retest"):
        return None
    if claim.kind == "retest":
        return retest_text(comparison, claim.arm, claim.metric, claim.printed)
    if claim.kind == "trajectory":
        return trajectory_text(comparison, claim.arm)
    if claim.kind == "trends":
        return trends_text(comparison, claim.arm)
    arms = claim.arms(grid)
    ours = comparison.summary(claim.metric, claim.arm)
    if claim.kind == "value":
        text = f"{mean_sd(ours.mean, ours.sd)} (n = {ours.n})" if ours.n else None
    else:
        text = difference_text(comparison, claim.metric, claim.arm)
    if text is None:
        return strong(incomplete(comparison, arms)) if comparison.mixed.keys() & set(arms) else None
    decision = _decide(claim, claim.printed, comparison)
    undecided = incomplete(comparison, arms)
    ports = (
        ""
        if undecided
        else "".join(f"; against {printed}: {_decide(claim, printed, comparison).text}" for printed, _ in claim.ports)
    )
    notes = [f"margin {verdict.margin(claim.metric):.1f}", *_notes(comparison, arms, claim.metric, decision)]
    return strong(undecided or decision.text) + f": measured {text}; {', '.join(notes)}{ports}"


def _decide(claim: PaperClaim, printed: float, comparison: Comparison) -> Decision:
    """The verdict on a printed value or difference, from finished runs."""
    metric, grid, looks = claim.metric, comparison.grid, len(comparison.grid.looks) + 1
    noise, ours = comparison.noise(metric), comparison.summary(metric, claim.arm)
    if claim.kind == "value":
        return verdict.decide(metric, printed, ours, noise, looks)
    return verdict.decide_difference(metric, printed, ours, comparison.summary(metric, grid.baseline), noise, looks)


def retest_text(comparison: Comparison, arm: str, metric: str, printed: float) -> Line | None:
    """The verdict on a printed number whose weights were evaluated again; None before that."""
    mean = comparison.summary(metric, arm).mean
    if mean is None:
        return None
    decided = incomplete(comparison, [arm]) or verdict.decide_retest(printed, mean).text
    return strong(decided) + f": measured {number(mean)}, margin {verdict.MARGIN_RETEST} (same weights, no seed noise)"


def _notes(comparison: Comparison, arms: list[str], metric: str, decision: Decision) -> Iterable[str]:
    rows = comparison.averaged[comparison.averaged["arm"].isin(arms)]
    resumed = int((rows["attempts"] > 1).sum())
    looks = comparison.grid.looks
    yield f"half-width {number(decision.half_width)} at {100 * verdict.confidence(len(looks) + 1):g}%"
    if looks:
        yield looks_text(looks)
    if comparison.noise(metric).df == 0:
        yield "noise assumed: no arm has two seeds"
    if resumed:
        yield f"{plural('run', resumed)} resumed"


def difference_text(comparison: Comparison, metric: str, arm: str) -> str | None:
    """'+0.71, 90% interval [-0.22, +1.64], n = 3 and 3'; None if either arm has no value."""
    difference = comparison.difference(metric, arm)
    if difference is None:
        return None
    limits = interval(difference.low, difference.high)
    counts = [comparison.summary(metric, name).n for name in (arm, comparison.grid.baseline_of(arm))]
    noise = f"{LEVEL} interval {limits}" if limits else "no interval (one seed per arm)"
    return f"{signed(difference.value)}, {noise}, n = {counts[0]} and {counts[1]}"


def trajectory_text(comparison: Comparison, arm: str) -> Line | None:
    """The verdict on T over the first iterations. Does not need finished runs. None before iteration 100."""
    runs = training_curves.trajectories(comparison, arm)
    known = [run for run in runs if run.values]
    if not known:
        return None
    gaps = [(abs(value - published_curves.PUBLISHED[at]), at) for run in known for at, value in run.values.items()]
    largest, at = max(gaps)
    decided = verdict.INCONCLUSIVE
    if any(run.off for run in known):
        decided = verdict.NOT_REPRODUCED
    elif all(len(run.values) == len(published_curves.PUBLISHED) for run in runs):
        decided = verdict.REPRODUCED
    within = f"{sum(not run.off for run in known)} of {plural('run', len(runs))} within the declared tolerance"
    return (
        strong(decided) + f": {within} {published_curves.TOLERANCE}; largest gap {number(largest, 4)} at iteration {at}"
    )


def trends_text(comparison: Comparison, arm: str) -> Line | None:
    """The verdict on the trends of Figure 5; None before any run shows one of them."""
    runs = training_curves.trends(comparison, arm, PUBLISHED_METHOD)
    known = [trend for run in runs for trend in run if trend.holds is not None]
    if not known:
        return None
    failed, total = [trend.text for trend in known if not trend.holds], sum(map(len, runs))
    decided = verdict.REPRODUCED if len(known) == total else verdict.INCONCLUSIVE
    decided = verdict.NOT_REPRODUCED if failed else decided
    text = f"{len(known) - len(failed)} of {plural('trend', total)} hold in {plural('run', len(runs))}"
    tolerances = f"declared tolerances: T {published_curves.T_TOLERANCE}, beta {published_curves.BETA_TOLERANCE}"
    return strong(decided) + f": {text} ({tolerances}){''.join(f'; not: {line}' for line in failed[:3])}"

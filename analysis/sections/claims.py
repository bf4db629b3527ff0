"""The paper's claims as data, and what the records say to each: the headline's, and each cell of a grid's table.

A claim counts on COCO val2017 and in the published setting only; `verdict` has the rule that decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.reading.manifest import Grid
from analysis.rendering.markup import code, escape, interval, mean_sd, number, one_of, signed
from analysis.rendering.model import Cell, Row, Table, table
from analysis.stats import verdict
from analysis.stats.comparison import Comparison, describe_state, is_lost
from analysis.stats.seeds import LEVEL
from analysis.stats.verdict import Decision
from dynamic_rcnn.run import published_curves as trajectory
from dynamic_rcnn.run import published_trends as trends
from dynamic_rcnn.run.manifest import PUBLISHED_BASE

COCO = "coco"
GRID = "ablation"
ARM = "both"
SOURCE = "arXiv 2004.06002"
RELEASED = "62a3f276"  # mmdet's file of weights: how its sha256 begins
VAL2017_IMAGES = 5000
METHOD = {"label_assignment": True, "smooth_l1": True, "iou_topk": 75, "beta_topk": 10}  # of the full method, published


def coco_command(grid: str) -> str:
    """What runs `grid` on COCO."""
    return f"python experiments/launch.py grid={grid} dataset=coco dataset.root=/data/coco"


@dataclass(frozen=True)
class Claim:
    """A printed number: a metric of the full method (`kind` value), or its difference from the baseline.

    printed: in points of AP; 0 for what is no number. grid, arm: that measure it, with `command`. weights: how the
    sha256 of those begins that are evaluated again (`kind` retest).
    """

    text: str
    kind: str
    metric: str
    source: str
    printed: float
    grid: str = GRID
    arm: str = ARM
    command: str = coco_command(GRID)
    weights: str | None = None


CLAIMS = (
    Claim("38.9 AP", "value", "AP", f"{SOURCE}, abstract, Table 2", 38.9),
    Claim("+1.9 AP over the baseline", "difference", "AP", f"{SOURCE}, abstract, Table 2", 1.9),
    Claim("+5.5 AP90 over the baseline", "difference", "AP90", f"{SOURCE}, abstract, Table 2", 5.5),
    Claim("no extra overhead", "overhead", "", f"{SOURCE}, abstract", 0.0),
    Claim("T at iterations 100 to 500", "trajectory", "", trajectory.SOURCE, 0.0),
    Claim("T and beta move and end as in Figure 5", "trends", "", trends.SOURCE, 0.0),
    Claim(
        *("38.9 AP, released weights re-tested", "retest", "AP", "mmdet's released model, one run", 38.9),
        grid="released",
        arm="released",
        command=f"{coco_command('released')} weights=/data/dynamic_rcnn_r50_fpn_1x-{RELEASED}.pth",
        weights=RELEASED,
    ),
)


def claims_table(comparisons: list[Comparison], overhead: list[str]) -> Table:
    """The verdict on each claim, with what COCO runs of the published setting measured, and the command for them.

    overhead: what the timing grids say to "no extra overhead" (see `speed.overhead_texts`).
    """
    rows: list[Row] = []
    for claim in CLAIMS:
        if claim.kind == "overhead":
            rows.append([claim.text, claim.source, "<br>".join(overhead), f"`{coco_command('speed')}`"])
            continue
        pairs = [(c, text) for c in comparisons if (text := measured(claim, c))]
        found = [(c, text) for c, text in pairs if deviation(c.grid, claim.weights) is None]
        others = [
            f"NOT COMPARABLE: setting {code(c.grid.setting)}, {reason}"
            for c, _ in pairs
            if (reason := deviation(c.grid, claim.weights))
        ]
        said = "<br>".join([*([text for _, text in found] or ["**NOT RUN**"]), *others])
        runs = [path for c, _ in found for path in c.paths(*_arms(claim, c.grid))]
        rows.append([claim.text, claim.source, Cell(said, runs=runs), f"`{claim.command}`"])
    return table(["claim, COCO val2017, R-50-FPN 1x", "source", "verdict", "how to run it"], rows, text_columns=4)


def deviation(grid: Grid, weights: str | None = None) -> str | None:
    """In what a grid on COCO is not the published setting, as Markdown; None if it is that setting.

    weights: how the sha256 of the published ones begins, where those are evaluated; None: as the grid itself says.
    """
    if grid.base is None or grid.changed is None:
        return "whose manifest does not say which base it is of"
    published = grid.paper.base if grid.paper else PUBLISHED_BASE
    parts = [f"base {code(grid.base)}"] if grid.base != published else []
    wanted = weights or (grid.paper.weights if grid.paper else None)
    if grid.weights is not None and wanted is not None and not grid.weights.sha256.startswith(wanted):
        found = f"{code(grid.weights.name)} (sha256 {code(grid.weights.sha256[:8])})"
        parts.append(f"weights {found}, not {code(wanted)}")
    if grid.changed:
        parts.append(f"changed: {', '.join(map(code, grid.changed))}")
    return ", ".join(parts) or None


def measured(claim: Claim, comparison: Comparison) -> str | None:
    """The verdict of the claim's grid on COCO and what it measured; None for others, and where nothing is known yet."""
    grid = comparison.grid
    if grid.dataset != COCO or grid.name != claim.grid or claim.arm not in grid.arms:
        return None
    if grid.trains == (claim.kind == "retest"):
        return None
    if claim.kind == "retest":
        return retest_text(comparison, claim.arm, claim.metric, claim.printed)
    if claim.kind == "trajectory":
        return trajectory_text(comparison, ARM)
    if claim.kind == "trends":
        return trends_text(comparison, ARM)
    arms = _arms(claim, grid)
    if claim.kind == "value":
        summary = comparison.summary(claim.metric, ARM)
        text = f"measured {mean_sd(summary.mean, summary.sd)} (n = {summary.n})" if summary.n else None
    else:
        text = difference_text(comparison, claim.metric, ARM)
    if text is None:
        return f"**{incomplete(comparison, arms)}**" if comparison.mixed.keys() & set(arms) else None
    decided = incomplete(comparison, arms) or decide(claim, comparison).text
    notes = [f"margin {verdict.margin(claim.metric):.1f}", *_notes(comparison, arms, claim.metric)]
    return f"**{decided}**: {text}; {', '.join(notes)}"


def _arms(claim: Claim, grid: Grid) -> list[str]:
    """Those whose runs decide the claim."""
    return [claim.arm, grid.baseline] if claim.kind == "difference" else [claim.arm]


def retest_text(comparison: Comparison, arm: str, metric: str, printed: float) -> str | None:
    """The verdict on a printed number whose weights were evaluated again; None before that."""
    found = comparison.summary(metric, arm).mean
    if found is None:
        return None
    decided = incomplete(comparison, [arm]) or verdict.decide_retest(printed, found).text
    return f"**{decided}**: measured {number(found)}, margin {verdict.MARGIN_RETEST} (the same weights: no seed noise)"


def decide(claim: Claim, comparison: Comparison) -> Decision:
    """The rule on what is measured; the claim must be a number, and its arms must have values."""
    noise, ours = comparison.noise(claim.metric), comparison.summary(claim.metric, ARM)
    if claim.kind == "value":
        return verdict.decide(claim.metric, claim.printed, ours, noise)
    theirs = comparison.summary(claim.metric, comparison.grid.baseline)
    return verdict.decide_difference(claim.metric, claim.printed, ours, theirs, noise)


def incomplete(comparison: Comparison, arms: list[str]) -> str | None:
    """Why these arms' runs decide nothing: they are of several settings, some are lost (the rest is a selection), saw
    other images, or are not done."""
    mixed = [
        f"runs of {escape(arm)} have {len(comparison.mixed[arm])} settings" for arm in arms if arm in comparison.mixed
    ]
    if mixed:
        return f"{verdict.NOT_COMPARABLE}: {', '.join(mixed)}"
    states = {arm: comparison.states(arm) for arm in arms}
    lost = [(arm, state, n) for arm in arms for state, n in states[arm] if is_lost(state)]
    if lost:
        listed = ", ".join(f"{one_of('run', n)} of {escape(arm)} {escape(state)}" for arm, state, n in lost)
        return f"{verdict.NOT_COMPARABLE}: {listed}; the others are a selection"
    images = comparison.averaged.loc[comparison.averaged["arm"].isin(arms), "images"]
    other = [
        f"{count:.0f}" if count == count else "an unknown number of" for count in images if count != VAL2017_IMAGES
    ]
    if other:
        return f"{verdict.NOT_COMPARABLE}: evaluated on {other[0]} images; val2017 has {VAL2017_IMAGES}"
    left = sum(n for arm in arms for state, n in states[arm] if state != describe_state("done", None))
    return f"{verdict.INCONCLUSIVE}: {one_of('run', left)} not done yet" if left else None


def _notes(comparison: Comparison, arms: list[str], metric: str) -> list[str]:
    """What a reader of a verdict has to know besides."""
    rows = comparison.averaged[comparison.averaged["arm"].isin(arms)]
    resumed = int((rows["attempts"] > 1).sum())
    notes = ["noise assumed: no arm has two seeds"] if comparison.noise(metric).df == 0 else []
    return notes + ([f"{one_of('run', resumed)} resumed (exactly)"] if resumed else [])


def cell_verdicts(comparison: Comparison) -> Table:
    """A row an arm of the paper's table that was run: the verdict on each printed value, with the measured mean."""
    grid = comparison.grid
    assert grid.paper is not None
    metrics = list(dict.fromkeys(metric for row in grid.paper.rows.values() for metric in row))
    rows = []
    for arm, printed in grid.paper.rows.items():
        if arm in grid.arms:
            rows.append([escape(arm), *(_cell(comparison, arm, metric, printed.get(metric)) for metric in metrics)])
    return table([f"{escape(grid.paper.table)}, verdict", *metrics], rows)


def _cell(comparison: Comparison, arm: str, metric: str, printed: float | None) -> str:
    summary = comparison.summary(metric, arm)
    if printed is None:
        return ""
    decided = incomplete(comparison, [arm])
    if summary.mean is None:
        return f"{decided if arm in comparison.mixed else verdict.NOT_RUN}: {number(printed, 1)}"
    decided = decided or verdict.decide(metric, printed, summary, comparison.noise(metric)).text
    return f"{decided}: {number(printed, 1)}, measured {number(summary.mean)}"


def difference_text(comparison: Comparison, metric: str, arm: str) -> str | None:
    """'measured +0.71, 90% interval [-0.22, +1.64], n = 3 and 3'; None where either arm has no value."""
    difference = comparison.difference(metric, arm)
    if difference is None:
        return None
    limits = interval(difference.low, difference.high)
    counts = [comparison.summary(metric, name).n for name in (arm, comparison.grid.baseline_of(arm))]
    noise = f", {LEVEL} interval {limits}" if limits else ", noise not known (one seed)"
    return f"measured {signed(difference.value)}{noise}, n = {counts[0]} and {counts[1]}"


def trajectory_text(comparison: Comparison, arm: str) -> str | None:
    """The verdict on T over the first iterations, which needs no finished run; None before iteration 100 of any."""
    runs = comparison.trajectories(arm)
    known = [run for run in runs if run.found]
    if not known:
        return None
    gaps = [(abs(value - trajectory.PUBLISHED[at]), at) for run in known for at, value in run.found.items()]
    largest, at = max(gaps)
    decided = verdict.INCONCLUSIVE
    if any(run.off for run in known):
        decided = verdict.NOT_REPRODUCED
    elif all(len(run.found) == len(trajectory.PUBLISHED) for run in runs):
        decided = verdict.REPRODUCED
    within = f"{sum(not run.off for run in known)} of {one_of('run', len(runs))} within {trajectory.TOLERANCE}"
    return f"**{decided}**: {within} (declared); largest difference {number(largest, 4)}, at iteration {at}"


def trends_text(comparison: Comparison, arm: str) -> str | None:
    """The verdict on Figure 5's trends; None before any run shows one of them."""
    runs = comparison.trends(arm, METHOD)
    known = [trend for run in runs for trend in run if trend.holds is not None]
    if not known:
        return None
    failed = [trend.text for trend in known if not trend.holds]
    decided = verdict.REPRODUCED if len(known) == sum(map(len, runs)) else verdict.INCONCLUSIVE
    decided = verdict.NOT_REPRODUCED if failed else decided
    text = f"{len(known) - len(failed)} of {one_of('trend', sum(map(len, runs)))} of {one_of('run', len(runs))} hold"
    tolerances = f"T within {trends.T_TOLERANCE}, beta within {trends.BETA_TOLERANCE}, declared"
    return f"**{decided}**: {text} ({tolerances}){''.join(f'; not: {line}' for line in failed[:3])}"

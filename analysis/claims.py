"""The paper's headline claims as data, and what the records say to each.

A claim counts on COCO val2017 and in the published setting only. The decision rule is not applied yet: measured
numbers stand there.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.comparison import Comparison
from analysis.grids import Grid
from analysis.markdown import code, interval, mean_sd, number, one_of, signed, table
from analysis.statistics import LEVEL

COCO = "coco"
GRID = "ablation"
ARM = "both"
BASE = "faster_rcnn_r50_fpn_1x"
COMMAND = "python experiments/launch.py grid=ablation dataset=coco dataset.root=/data/coco"
SOURCE = "arXiv 2004.06002"


@dataclass(frozen=True)
class Claim:
    """A printed number: a metric of the full method (`kind` value), or its difference from the baseline."""

    text: str
    kind: str
    metric: str
    where: str


CLAIMS = (
    Claim("38.9 AP", "value", "AP", "abstract, Table 2"),
    Claim("+1.9 AP over the baseline", "difference", "AP", "abstract, Table 2"),
    Claim("+5.5 AP90 over the baseline", "difference", "AP90", "abstract, Table 2"),
    Claim("no extra overhead", "overhead", "", "abstract"),
)


def claims_table(comparisons: list[Comparison]) -> str:
    """The claims with what COCO runs of the published setting measured; without any, NOT RUN and the command."""
    rows = []
    for claim in CLAIMS:
        pairs = [(c.grid, text) for c in comparisons if (text := measured(claim, c))]
        found = [text for grid, text in pairs if deviation(grid) is None]
        others = [
            f"NOT COMPARABLE: setting {code(grid.setting)}, {reason}"
            for grid, _ in pairs
            if (reason := deviation(grid))
        ]
        verdict = "<br>".join([*(found or ["**NOT RUN**"]), *others])
        way = "decision rule not applied yet" if found else f"`{COMMAND}`"
        rows.append([claim.text, f"{SOURCE}, {claim.where}", verdict, way])
    return table(["claim, COCO val2017, R-50-FPN 1x", "source", "verdict", "how to run it"], rows, text_columns=4)


def deviation(grid: Grid) -> str | None:
    """In what a grid on COCO is not the published setting, as Markdown; None if it is that setting."""
    if grid.base is None or grid.changed is None:
        return "whose manifest does not say which base it is of"
    parts = [f"base {code(grid.base)}"] if grid.base != BASE else []
    if grid.changed:
        parts.append(f"changed: {', '.join(map(code, grid.changed))}")
    return ", ".join(parts) or None


def measured(claim: Claim, comparison: Comparison) -> str | None:
    """What a COCO ablation measured for the claim; None for other grids, and where nothing has finished."""
    grid = comparison.grid
    if grid.dataset != COCO or grid.name != GRID or ARM not in grid.arms:
        return None
    if claim.kind == "value":
        summary = comparison.summary(claim.metric, ARM)
        return f"measured {mean_sd(summary.mean, summary.sd)} (n = {summary.n})" if summary.n else None
    if claim.kind == "difference":
        return difference_text(comparison, claim.metric, ARM)
    return overhead_text(comparison, ARM)


def difference_text(comparison: Comparison, metric: str, arm: str) -> str | None:
    """'measured +0.71, 90% interval [-0.22, +1.64], n = 3 and 3'; None where either arm has no value."""
    difference = comparison.difference(metric, arm)
    if difference is None:
        return None
    limits = interval(difference.low, difference.high)
    counts = [comparison.summary(metric, name).n for name in (arm, comparison.grid.baseline)]
    noise = f", {LEVEL} interval {limits}" if limits else ", noise not known (one seed)"
    return f"measured {signed(difference.value)}{noise}, n = {counts[0]} and {counts[1]}"


def overhead_text(comparison: Comparison, arm: str) -> str | None:
    """Seconds an iteration of both arms, in training; None where either has no finished run."""
    ours, theirs = comparison.seconds(arm), comparison.seconds(comparison.grid.baseline)
    if ours.mean is None or theirs.mean is None or theirs.mean == 0:
        return None
    change = signed(100 * (ours.mean / theirs.mean - 1), 1)
    return (
        f"measured {number(ours.mean, 3)} against {number(theirs.mean, 3)} s an iteration in training "
        f"({change}%; mean of the medians of {one_of('run', ours.n)} and {one_of('run', theirs.n)})"
    )

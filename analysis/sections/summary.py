"""The results of one grid in sentences, made from its numbers: which arms differ from the baseline."""

from __future__ import annotations

from analysis.rendering.text import Line, interval, join, signed, strong
from analysis.sections.comparability import COCO, deviation
from analysis.sections.tables import SAME_RUNS, whose_baseline
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL, Difference
from dynamic_rcnn.metrics.names import AP_METRICS

NOTHING_YET = "No run of this grid has finished yet."


def paragraph(comparison: Comparison) -> Line:
    """The ablation table in words."""
    grid = comparison.grid
    if not comparison.n_done:
        return NOTHING_YET
    parts: list[Line] = [
        f"On {grid.dataset}, {comparison.seeds_text()} finished. Differences from {whose_baseline(grid)} with {LEVEL} "
        "intervals, and whether they are significant after Holm's correction over the arms:"
    ]
    for arm in comparison.others:
        if comparison.same_runs(arm):
            words = "; ".join(f"{metric}: {SAME_RUNS} as the baseline" for metric in ("AP", "AP90"))
        else:
            found = {metric: comparison.difference(metric, arm) for metric in ("AP", "AP90")}
            words = "; ".join(_words(metric, each, "the baseline") for metric, each in found.items())
        against = f" against {grid.baseline_of(arm)}" if grid.baselines else ""
        parts.append(strong(arm) + f"{against}: {words}.")
    for pair in grid.contrasts:
        words = "; ".join(_words(metric, comparison.contrast(metric, pair), pair[1]) for metric in ("AP", "AP90"))
        parts.append(strong(" minus ".join(pair)) + f": {words}.")
    parts += _over_all_metrics(comparison)
    neither = "it neither confirms nor refutes a"
    if grid.dataset != COCO:
        parts.append(f"This is a result on {grid.dataset}; {neither} number on COCO.")
    elif (reason := deviation(grid)) is not None:
        parts.append("This is not the published setting (" + reason + f"); {neither} printed number.")
    return join(" ", parts)


def _words(metric: str, difference: Difference | None, other: str) -> str:
    """'AP90 +3.40 [+1.20, +5.60], above the baseline'."""
    if difference is None:
        return f"{metric} has no value for this arm or for {other}"
    if difference.is_significant is None:
        return f"{metric} {signed(difference.value)}, no interval (one seed per arm)"
    text = f"{metric} {signed(difference.value)} {interval(difference.low, difference.high)}"
    if not difference.is_significant:
        return f"{text}, no significant difference from {other}"
    return f"{text}, {'above' if difference.value > 0 else 'below'} {other}"


def _over_all_metrics(comparison: Comparison) -> list[str]:
    """How many of the table's differences are significant, and whether their signs are the paper's."""
    pairs = [(arm, metric) for arm in comparison.others for metric in AP_METRICS]
    differences = {pair: comparison.difference(pair[1], pair[0]) for pair in pairs}
    known = {pair: d for pair, d in differences.items() if d is not None and d.is_significant is not None}
    if not known:
        return []
    significant = {pair: d.value for pair, d in known.items() if d.is_significant}
    text = f"Of the {len(known)} differences in the table, {len(significant)} are significant."
    return [text, *_against_paper(comparison, significant)]


def _against_paper(comparison: Comparison, significant: dict[tuple[str, str], float]) -> list[str]:
    paper = comparison.grid.paper
    if paper is None:
        return []
    same = []
    for (arm, metric), value in significant.items():
        theirs = paper.rows.get(arm, {}).get(metric)
        reference = paper.rows.get(comparison.grid.baseline_of(arm), {}).get(metric)
        if theirs is not None and reference is not None and theirs != reference:
            same.append((value > 0) == (theirs > reference))
    if not same:
        return []
    return [
        f"The paper's {paper.table} shows a difference for {len(same)} of these: {sum(same)} with the same sign, "
        f"{len(same) - sum(same)} with the opposite sign."
    ]

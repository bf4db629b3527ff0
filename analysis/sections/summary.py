"""The numbers of one grid in words, put together mechanically: which arms differ from the baseline."""

from __future__ import annotations

from analysis.rendering.markup import escape, interval, one_of, signed
from analysis.sections.claims import COCO, deviation
from analysis.sections.difference_tables import SAME_RUNS, whose_baseline
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL, Difference
from dynamic_rcnn.metrics.names import AP_METRICS


def sentence(comparison: Comparison, arm: str, metric: str) -> str:
    """One comparison: 'AP90 +3.40 [+1.20, +5.60], above the baseline'."""
    if comparison.same_runs(arm):
        return f"{metric}: {SAME_RUNS} as the baseline's"
    return _words(metric, comparison.difference(metric, arm), "the baseline")


def _words(metric: str, difference: Difference | None, other: str) -> str:
    if difference is None:
        return f"{metric} has no value in this arm or in {other}"
    if difference.told_apart is None:
        return f"{metric} {signed(difference.value)}, noise not known (one seed an arm)"
    limits = interval(difference.low, difference.high)
    if not difference.told_apart:
        return f"{metric} {signed(difference.value)} {limits}, cannot be told apart from {other}"
    return f"{metric} {signed(difference.value)} {limits}, {'above' if difference.value > 0 else 'below'} {other}"


def paragraph(comparison: Comparison) -> str:
    """The reading of the ablation table."""
    grid = comparison.grid
    if not comparison.n_done:
        return "No run of this grid has finished; there is nothing to read yet."
    parts = [
        f"On {escape(grid.dataset)}, {comparison.seeds_text()} finished; differences from {whose_baseline(grid)}, "
        f"in brackets their {LEVEL} intervals, told apart or not after Holm's correction over the arms."
    ]
    for arm in comparison.others:
        words = "; ".join(sentence(comparison, arm, metric) for metric in ("AP", "AP90"))
        against = f" against {escape(grid.baseline_of(arm))}" if grid.baselines else ""
        parts.append(f"**{escape(arm)}**{against}: {words}.")
    for pair in grid.contrasts:
        arm, other = map(escape, pair)
        words = "; ".join(_words(metric, comparison.contrast(metric, pair), other) for metric in ("AP", "AP90"))
        parts.append(f"**{arm} minus {other}**: {words}.")
    parts += _over_all_metrics(comparison)
    if grid.dataset != COCO:
        parts.append(f"This is a result on {escape(grid.dataset)}; it neither confirms nor refutes a number on COCO.")
    elif (reason := deviation(grid)) is not None:
        parts.append(f"This is not the published setting ({reason}); it neither confirms nor refutes a printed number.")
    return " ".join(parts)


def _over_all_metrics(comparison: Comparison) -> list[str]:
    """How many of the table's differences are told apart, and which way they point."""
    pairs = [(arm, metric) for arm in comparison.others for metric in AP_METRICS]
    found = {pair: comparison.difference(pair[1], pair[0]) for pair in pairs}
    known = {pair: d for pair, d in found.items() if d is not None and d.told_apart is not None}
    if not known:
        return []
    apart = {pair: d.value for pair, d in known.items() if d.told_apart}
    text = f"Of the {len(known)} differences in the table, {len(apart)} are told apart from the baseline."
    return [text, *_against_paper(comparison, apart)]


def _against_paper(comparison: Comparison, apart: dict[tuple[str, str], float]) -> list[str]:
    paper = comparison.grid.paper
    if paper is None:
        return []
    signs = []
    for (arm, metric), value in apart.items():
        theirs = paper.rows.get(arm, {}).get(metric)
        reference = paper.rows.get(comparison.grid.baseline_of(arm), {}).get(metric)
        if theirs is not None and reference is not None and theirs != reference:
            signs.append((value > 0) == (theirs > reference))
    if not signs:
        return []
    return [
        f"Of those, and for which the paper's {escape(paper.table)} shows a difference "
        f"({one_of('number', len(signs))}), {sum(signs)} point the same way as the paper's and "
        f"{len(signs) - sum(signs)} the other way."
    ]

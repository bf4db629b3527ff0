"""The results of one grid in sentences, made from its numbers: which arms differ from the baseline."""

from __future__ import annotations

from analysis.rendering.text import Line, interval, join, signed, strong, to_text
from analysis.sections.against_paper import disagreements
from analysis.sections.claims import FULL_METHOD
from analysis.sections.comparability import COCO, deviation
from analysis.sections.tables import SAME_RUNS, whose_baseline
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.estimate import Estimate
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.wording import plural

NOTHING_YET = "No run of this grid has finished yet."


def summary_line(comparison: Comparison) -> Line:
    """The runs of a grid, and its last arm or the full method against its baseline, in one line."""
    grid = comparison.grid
    runs = f"{comparison.n_done} of {plural('run', len(comparison.runs))} done"
    if not comparison.n_done or not comparison.others:
        return runs + "."
    arm = FULL_METHOD if FULL_METHOD in comparison.others else comparison.others[-1]
    found = [f"{metric} " + (number_text(comparison.difference(metric, arm))) for metric in PRIMARY]
    return f"{runs}; {arm} minus {grid.baseline_of(arm)}: " + join(", ", found) + "."


def number_text(estimate: Estimate | None) -> Line:
    """'**+2.54** [+2.17, +2.91]'; bold: significant."""
    if estimate is None:
        return "not known"
    limits = interval(*estimate.interval()) or "(no interval: one seed per arm)"
    return (strong if estimate.is_significant else to_text)(signed(estimate.value)) + f" {limits}"


def paragraph(comparison: Comparison) -> Line:
    """The ablation table in words."""
    grid = comparison.grid
    if not comparison.n_done:
        return NOTHING_YET
    parts: list[Line] = [
        f"On {grid.dataset}, {comparison.seeds_text()} finished. Differences from {whose_baseline(grid)} with {LEVEL} "
        "intervals, and whether they are significant after Holm's correction:"
    ]
    for arm in comparison.others:
        if comparison.same_runs(arm):
            words = "; ".join(f"{metric}: {SAME_RUNS} as the baseline" for metric in PRIMARY)
        else:
            found = {metric: comparison.difference(metric, arm) for metric in PRIMARY}
            words = "; ".join(_words(metric, each, "the baseline") for metric, each in found.items())
        against = f" against {grid.baseline_of(arm)}" if grid.baselines else ""
        parts.append(strong(arm) + f"{against}: {words}.")
    effects = {metric: comparison.effects(metric) if comparison.shows_factorial else {} for metric in PRIMARY}
    for name in effects[PRIMARY[0]]:
        parts.append(strong(name) + f": {'; '.join(_words(metric, effects[metric][name]) for metric in PRIMARY)}.")
    for pair in grid.contrasts:
        words = "; ".join(_words(metric, comparison.contrast(metric, pair), pair[1]) for metric in PRIMARY)
        parts.append(strong(" minus ".join(pair)) + f": {words}.")
    parts += equivalence_sentences(comparison)
    if named := disagreements(comparison):
        parts.append("Disagrees with the paper's differences: " + ", ".join(each.text for each in named) + ".")
    neither = "it neither confirms nor refutes a"
    if grid.dataset != COCO:
        parts.append(f"This is a result on {grid.dataset}; {neither} number on COCO.")
    elif (reason := deviation(grid)) is not None:
        parts.append("This is not the published setting (" + reason + f"); {neither} printed number.")
    return join(" ", parts)


def equivalence_sentences(comparison: Comparison) -> list[Line]:
    """The verdict on each claim of equivalence."""
    tests = [
        (claim, metric, test)
        for claim in comparison.grid.equivalence
        for metric in claim.margins
        if (test := comparison.equivalence(claim, metric)) is not None
    ]
    return [
        f"{', '.join(claim.arms)} within {claim.margins[metric]:g} {metric}: " + strong(test.text) + "."
        for claim, metric, test in tests
    ]


def _words(metric: str, estimate: Estimate | None, other: str = "") -> str:
    """'AP90 +3.40 [+1.20, +5.60], above the baseline'. other: what is compared with; "" for an effect."""
    if estimate is None:
        return f"{metric} has no value" + (f" for this arm or for {other}" if other else "")
    if estimate.is_significant is None:
        return f"{metric} {signed(estimate.value)}, no interval (one seed per arm)"
    text = f"{metric} {signed(estimate.value)} {interval(*estimate.interval())}"
    if not other:
        return f"{text}, {'significant' if estimate.is_significant else 'not significant'}"
    if not estimate.is_significant:
        return f"{text}, no significant difference from {other}"
    return f"{text}, {'above' if estimate.value > 0 else 'below'} {other}"

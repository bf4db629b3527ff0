"""The questions that the suite asks, and the answer to each in words, from the numbers by the rules in this module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from analysis.rendering.text import Line, Text, join
from analysis.sections.claims import FULL_METHOD
from analysis.sections.comparability import COCO, deviation
from analysis.sections.summary import number_text
from analysis.sections.timing_section import cost_text, why_not_comparable
from analysis.stats.comparison import PRIMARY, Comparison
from analysis.stats.equivalence import EQUIVALENT, NOT_DECIDED, EquivalenceTest
from analysis.stats.estimate import Estimate
from analysis.stats.timing import TimingComparison, counted_costs, overhead_verdict
from analysis.stats.verdict import NOT_REPRODUCED, NOT_RUN, REPRODUCED

WORKS = "Does Dynamic R-CNN work?"
COMPONENTS = "Which component, and do they interact?"
DYNAMICS = "Dynamics, schedule or end point?"
STATISTIC = "Does mmdet's statistic differ from the author's?"
SMALL_BETA = "When does a smaller beta help?"
COST = "What does it cost?"

BETTER, WORSE = "better", "worse"
MEANING = {
    "END POINT": "Static training with the final T and beta does at least as well: the way there does not matter.",
    "SCHEDULE": "The final T and beta alone are worse; the schedule of another seed does at least as well, without "
    "feedback.",
    "DYNAMICS": "The final T and beta alone are worse, and so is the schedule of another seed: the feedback matters.",
    "NOT THE END POINT": "The final T and beta alone are worse. Whether the schedule of another seed does as well is "
    "not decided.",
    NOT_DECIDED: "Static training with the final T and beta is neither shown to be worse nor to be as good.",
}
STATISTICS = {
    "NO": "The two ways to measure T and beta are equivalent within the margins.",
    "YES": "The two ways to measure T and beta differ significantly.",
    NOT_DECIDED: "Between the two ways to measure T and beta, neither a difference nor equivalence is shown.",
}
SMALLER_BETA = {
    "ALSO WITH A FIXED T": "A smaller beta raises AP90 with T fixed at 0.50, too, in DSL or as a constant.",
    "AT A HIGHER T": "A smaller beta raises AP90 with T at 0.62. With T at 0.50, no gain is significant.",
    NOT_DECIDED: "No smaller beta has a significant gain in AP90.",
    "CANNOT BE SEEN HERE": "These data cannot show it.",
}
DECIDING, FURTHER = ("end_point", "open_loop"), ("static_joint", "shuffled", "reversed")  # controls of dynamics
POSITIVE_CONTROLS = ("beta_2", "beta_4", "weight_1_3", "weight_3")  # another box loss
SMALL_BETAS = ("dsl", "beta_1_3", "beta_1_6")  # at T 0.50
AT_A_HIGHER_T = (("t_62_beta_1_3", "t_62"), ("t_62_beta_1_6", "t_62"))


@dataclass(frozen=True)
class Answer:
    """verdict: in a word or two. sentence: what it means. numbers: behind it. grid: the key of their grid, if any."""

    question: str
    verdict: str
    sentence: str
    numbers: Line = ""
    grid: str | None = None


def answers(comparisons: list[Comparison], timings: list[TimingComparison]) -> list[Answer]:
    """One answer to each question."""
    rules: list[tuple[str, str, str, Callable[[Comparison], Answer]]] = [
        (WORKS, "ablation", FULL_METHOD, _works),
        (COMPONENTS, "ablation", FULL_METHOD, _components),
        (DYNAMICS, "dynamics", FULL_METHOD, _dynamics),
        (STATISTIC, "dynamics", FULL_METHOD, _statistic),
        (SMALL_BETA, "dsl", POSITIVE_CONTROLS[1], _small_beta),
    ]
    found = []
    for question, grid, arm, rule in rules:
        comparison = best_comparison(comparisons, grid, arm)
        found.append(rule(comparison) if comparison else Answer(question, NOT_RUN, f"Needs grid={grid}."))
    return [*found, _cost(timings)]


def best_comparison(comparisons: Iterable[Comparison], name: str, arm: str) -> Comparison | None:
    """The grid of this name that answers: the published setting on COCO if it was run, else the one with most runs.

    arm: one that it must have.
    """
    found = [each for each in comparisons if each.grid.name == name and each.n_done and arm in each.grid.arms]
    return max(found, key=lambda each: (_is_published(each), each.n_done), default=None)


def _is_published(comparison: Comparison) -> bool:
    return comparison.grid.dataset == COCO and deviation(comparison.grid) is None


def _works(comparison: Comparison) -> Answer:
    """YES: AP and AP90 are both above the baseline. PARTLY: one is. NO: one is below, and none above."""
    found = {metric: comparison.difference(metric, FULL_METHOD) for metric in PRIMARY}
    above, below = ([metric for metric in PRIMARY if _sign(found[metric]) == sign] for sign in (BETTER, WORSE))
    verdict = NOT_DECIDED
    if above:
        verdict = "YES" if len(above) == len(found) else "PARTLY"
    elif below:
        verdict = "NO"
    known = {"above": above, "below": below}
    words = [_compared(found, metrics, where) for where, metrics in known.items() if metrics]
    sentence = ", ".join(words) or "no significant difference from the baseline in AP or AP90"
    if None in found.values():
        sentence = "the runs that decide are not done"
    elif all(each.low is None for each in found.values() if each):
        sentence = "one seed per arm, so the noise is not known"
    counts = [comparison.summary("AP", arm).n for arm in (FULL_METHOD, comparison.grid.baseline_of(FULL_METHOD))]
    numbers = f"{_title(comparison)} minus {comparison.grid.baseline_of(FULL_METHOD)}: " + _numbers(found)
    numbers += f"; {counts[0]} and {counts[1]} seeds."
    return Answer(WORKS, verdict, f"On {comparison.grid.dataset}, {sentence}.", numbers, comparison.grid.key)


def _compared(found: Mapping[str, Estimate | None], metrics: list[str], where: str) -> str:
    """'AP and AP90 are above the baseline by 2.61 and 2.48 points'."""
    sizes = " and ".join(f"{abs(each.value):.2f}" for metric in metrics if (each := found[metric]))
    return f"{' and '.join(metrics)} {'are' if len(metrics) > 1 else 'is'} {where} the baseline by {sizes} points"


def _components(comparison: Comparison) -> Answer:
    """The components whose main effect on AP or AP90 is positive, and whether they interact in either."""
    grid = comparison.grid
    if not grid.factorial:
        return Answer(COMPONENTS, NOT_RUN, "This grid declares no factors.", grid=grid.key)
    names = [*grid.factorial, "interaction"]
    effects = {metric: comparison.effects(metric).values() for metric in PRIMARY}
    found = {name: dict(zip(PRIMARY, each, strict=True)) for name, *each in zip(names, *effects.values(), strict=True)}
    raised = {name: [metric for metric in PRIMARY if _sign(found[name][metric]) == BETTER] for name in grid.factorial}
    helping = {name: metrics for name, metrics in raised.items() if metrics}
    main = "; ".join(f"{name} raises {' and '.join(metrics)}" for name, metrics in helping.items())
    is_shown = any(map(_sign, found["interaction"].values()))
    interaction = "They interact" if is_shown else f"Whether they interact is {NOT_DECIDED}"
    sentence = f"On average over the other component: {main or 'no significant gain of either'}. {interaction}."
    numbers = "Main effects and interaction: " + join("; ", [f"{name} " + _numbers(found[name]) for name in names])
    return Answer(COMPONENTS, " and ".join(helping) or NOT_DECIDED, sentence, numbers + ".", grid.key)


def _dynamics(comparison: Comparison) -> Answer:
    """From the controls that take something away from the dynamics: all but the end point, or the feedback."""
    end, schedule = (_state(comparison, arm) for arm in ("end_point", "open_loop"))
    verdict = NOT_DECIDED
    if end in (EQUIVALENT, BETTER):
        verdict = "END POINT"
    elif end == WORSE:
        by_schedule = {EQUIVALENT: "SCHEDULE", BETTER: "SCHEDULE", WORSE: "DYNAMICS"}
        verdict = by_schedule.get(schedule or "", "NOT THE END POINT")
    declared = [arm for arm in FURTHER if (FULL_METHOD, arm) in comparison.grid.contrasts]
    further = ", ".join(f"{arm} {_state(comparison, arm) or NOT_DECIDED}" for arm in declared)
    numbers = _controls(comparison, DECIDING) + (f" Other controls: {further}." if further else "")
    return Answer(DYNAMICS, verdict, MEANING[verdict], numbers, comparison.grid.key)


def _statistic(comparison: Comparison) -> Answer:
    """NO: equivalent. YES: a significant difference."""
    verdict = {EQUIVALENT: "NO", BETTER: "YES", WORSE: "YES"}.get(_state(comparison, "author") or "", NOT_DECIDED)
    return Answer(STATISTIC, verdict, STATISTICS[verdict], _controls(comparison, ("author",)), comparison.grid.key)


def _small_beta(comparison: Comparison) -> Answer:
    """Whether AP90 moves with the box loss at all (the positive controls), and at which T a smaller beta raises it."""
    grid = comparison.grid
    found = {arm: comparison.difference("AP90", arm) for arm in (*POSITIVE_CONTROLS, *SMALL_BETAS) if arm in grid.arms}
    pairs = {pair: comparison.contrast("AP90", pair) for pair in AT_A_HIGHER_T if pair in grid.contrasts}
    moving = [arm for arm in POSITIVE_CONTROLS if _sign(found.get(arm))]
    verdict = NOT_DECIDED if moving else "CANNOT BE SEEN HERE"
    if BETTER in map(_sign, pairs.values()):
        verdict = "AT A HIGHER T"
    if BETTER in (_sign(found.get(arm)) for arm in SMALL_BETAS):
        verdict = "ALSO WITH A FIXED T"
    share = f"{len(moving)} of {len(POSITIVE_CONTROLS)}"
    sentence = (
        f"{SMALLER_BETA[verdict]} A larger beta or another weight of the box loss changes AP90 in {share} controls."
    )
    parts = [f"{arm} " + number_text(found[arm]) for arm in SMALL_BETAS if arm in found]
    parts += [f"{arm} minus {other} " + number_text(each) for (arm, other), each in pairs.items()]
    numbers = f"AP90 minus {grid.baseline}: " + join("; ", parts) + "."
    numbers += " AP: dsl " + number_text(comparison.difference("AP", "dsl")) + "." if "dsl" in grid.arms else ""
    return Answer(SMALL_BETA, verdict, sentence, numbers, grid.key)


def _cost(timings: list[TimingComparison]) -> Answer:
    """NOTHING: no cost is beyond the margin of "no extra overhead"; SOMETHING: one is.

    NO EXTRA TIME: not all was measured. The same network at inference takes the same time, whatever was timed.
    """
    timed = [each for each in timings if each.n_done and FULL_METHOD in each.arms]
    if not timed:
        return Answer(COST, NOT_RUN, "Needs grid=speed.")
    best = min(timed, key=lambda each: why_not_comparable(each) is not None)
    costs, is_same = best.costs(FULL_METHOD), best.same_network(FULL_METHOD, best.baseline)
    counted = counted_costs(costs, is_same)
    known = [cost for cost in counted if cost.decision is not None]
    words = {REPRODUCED: "NOTHING" if known == counted else "NO EXTRA TIME", NOT_REPRODUCED: "SOMETHING"}
    verdict = words.get(overhead_verdict(known), NOT_DECIDED) if costs[0] in known else NOT_DECIDED
    parts = [f"{cost.name} {cost.ratio.value:.3f} times the baseline's" for cost in known if cost.ratio]
    parts += [f"{cost.name} not measured" for cost in counted if cost not in known]
    parts += ["the same network at inference"] if is_same else []
    where: Line = why_not_comparable(best) or f"on {best.grid.dataset}"
    numbers = "Timed " + where + ": " + "; ".join(cost_text(cost, False, is_same) for cost in costs) + "."
    return Answer(COST, verdict, f"{_capital(', '.join(parts))}.", numbers, best.grid.key)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _title(comparison: Comparison) -> str:
    """'DLA + DSL'."""
    return comparison.grid.arms[FULL_METHOD]


def _sign(estimate: Estimate | None) -> str | None:
    """BETTER or WORSE if the estimate is significant, else None."""
    if estimate is None or not estimate.is_significant:
        return None
    return BETTER if estimate.value > 0 else WORSE


def _state(comparison: Comparison, arm: str) -> str | None:
    """How `arm` does against the full method.

    WORSE or BETTER: significantly in AP or AP90 (both in different metrics: WORSE). EQUIVALENT: within all margins that
    the grid declares for the two. None: neither, or the grid declares no such contrast.
    """
    pair = (FULL_METHOD, arm)
    if pair not in comparison.grid.contrasts:
        return None
    signs = {_sign(comparison.contrast(metric, pair)) for metric in PRIMARY}
    if signs & {BETTER, WORSE}:
        return WORSE if BETTER in signs else BETTER  # the difference is the full method minus the arm
    tests = _tests(comparison, pair)
    return EQUIVALENT if tests and all(test.verdict == EQUIVALENT for test in tests) else None


def _tests(comparison: Comparison, pair: tuple[str, str]) -> list[EquivalenceTest]:
    claims = [claim for claim in comparison.grid.equivalence if set(claim.arms) == set(pair)]
    tests = [comparison.equivalence(claim, metric) for claim in claims for metric in claim.margins]
    return [test for test in tests if test is not None]


def _controls(comparison: Comparison, arms: Iterable[str]) -> Line:
    """The full method minus each of the arms that the grid contrasts with it, and what that shows."""
    parts = []
    for arm in arms:
        pair = (FULL_METHOD, arm)
        if pair not in comparison.grid.contrasts:
            continue
        state = _state(comparison, arm)
        undecided = [test.text for test in _tests(comparison, pair) if test.verdict == NOT_DECIDED]
        words = f"{arm} is {state}" if state in (WORSE, BETTER) else state or (undecided or [NOT_DECIDED])[0]
        numbers = _numbers({metric: comparison.contrast(metric, pair) for metric in PRIMARY})
        parts.append(f"{arm} " + numbers + f": {words}")
    return f"{_title(comparison)} minus " + join("; ", parts) + "."


def _numbers(found: Mapping[str, Estimate | None]) -> Text:
    """'AP **+2.54** [+2.17, +2.91], AP90 +0.30 [-0.11, +0.71]'; bold: significant."""
    return join(", ", [f"{metric} " + number_text(estimate) for metric, estimate in found.items()])

"""The first section: what was asked, the answers, the arms of the ablation, and whether COCO was run."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import Block, Bullets, Figure, Section, Table
from analysis.rendering.text import Line, code, join, link, strong
from analysis.sections import tables
from analysis.sections.answers import Answer, answers, best_comparison
from analysis.sections.claims import ABLATION, CLAIMS, FULL_METHOD, coco_command, verdict_on
from analysis.sections.comparability import COCO
from analysis.stats import verdict
from analysis.stats.comparison import Comparison
from analysis.stats.timing import TimingComparison
from dynamic_rcnn.wording import plural

KEY = "answers"
AP_CLAIMS = ("value", "difference")  # kinds of claims with a printed AP
METRICS = ("AP", "AP50", "AP75", "AP90")
NOTE = (
    "AP in percent, mean over n seeds. Differences in points with 95% intervals. They are estimated within seeds, so "
    "they are not the differences of the means shown if arms have different seeds. Bold: significant, p < 0.05 after "
    "Holm's correction."
)
ABOUT = "DLA moves the IoU threshold T of positives during training, DSL the beta of SmoothL1."
SHAPES = "images that the suite draws: they show the mechanism, and neither confirm nor refute a number on COCO"
FIGURES = ("-differences.svg", "-training-state.svg")  # of the ablation


def section(comparisons: list[Comparison], timings: list[TimingComparison], figures: Sequence[Figure] = ()) -> Section:
    """The section. figures: of all grids, of which it repeats those of the ablation that FIGURES names."""
    found = answers(comparisons, timings)
    ablation = best_comparison(comparisons, ABLATION, FULL_METHOD)
    items = [*map(_line, found), coco_line(comparisons)]
    about = join(" ", [*_data_lines(comparisons), ABOUT])
    blocks: list[Block] = [about, Bullets(items, [*(answer.numbers for answer in found), ""])]
    blocks += [four_arms(ablation), NOTE] if ablation else []
    names = [f"{ablation.grid.key}{suffix}" for suffix in FIGURES] if ablation else []
    blocks += [_runs_line(comparisons, timings), *(figure for figure in figures if figure.name in names)]
    return Section(KEY, "What was asked, and the answers", blocks)


def four_arms(ablation: Comparison) -> Table:
    """AP, AP50, AP75 and AP90 of each arm, and the differences in AP and AP90."""
    return tables.level_and_difference_table(ablation, METRICS)


def coco_line(comparisons: list[Comparison]) -> Line:
    """Whether COCO was run, the verdicts on the paper's APs if so, and the command that runs the ablation."""
    runs = {path for each in comparisons if each.grid.dataset == COCO for path in each.runs["path"]}
    done = {path for each in comparisons if each.grid.dataset == COCO for path in each.paths(*each.grid.arms)}
    state: Line = strong(verdict.NOT_RUN)
    if done:
        verdicts = [f"{claim.text}: " + verdict_on(claim, comparisons) for claim in CLAIMS if claim.kind in AP_CLAIMS]
        state = f"{len(done)} of {plural('run', len(runs))} done; " + join("; ", verdicts)
    return strong("COCO") + ", on which the paper's claims are decided: " + state + ". " + code(coco_command(ABLATION))


def _data_lines(comparisons: list[Comparison]) -> list[Line]:
    """What was measured on, with what it is worth."""
    names = sorted({each.grid.dataset for each in comparisons if each.n_done})
    if not names:
        return []
    worth = f", {SHAPES}" if any(name.startswith("shapes") for name in names) else ""
    return [f"Measured on {' and '.join(names)}{worth}."]


def _runs_line(comparisons: list[Comparison], timings: list[TimingComparison]) -> Line:
    grids: list[Comparison | TimingComparison] = [*comparisons, *timings]
    states = {row.path: row.state for each in grids for row in each.runs.itertuples()}  # grids share runs
    done = f"{list(states.values()).count('done')} of {plural('run', len(states))} done"
    return f"Generated from the records of {plural('grid', len(grids))}: {done}. Do not edit; see the last section."


def _line(answer: Answer) -> Line:
    question = link(answer.question, answer.grid) if answer.grid else answer.question
    return join(" ", [question, strong(answer.verdict) + ".", answer.sentence])

"""What the paper printed for a grid's arms, in the grid's section, and a verdict on each value if they compare."""

from __future__ import annotations

from analysis.rendering.model import Block, Heading, Table, table
from analysis.rendering.text import Line, code, number, signed
from analysis.sections.comparability import COCO, deviation, incomplete, looks_text
from analysis.sections.tables import arm_title
from analysis.stats import verdict
from analysis.stats.comparison import Comparison
from dynamic_rcnn.metrics.names import AP_METRICS, MASK_METRICS
from dynamic_rcnn.run.manifest import Manifest, Paper

RULE = "the rule in " + code("analysis/stats/verdict.py")
IN_BRACKETS = "In brackets: the difference from the paper's own baseline. "


def blocks(comparison: Comparison) -> list[Block]:
    """The part of the section about the paper's numbers; empty if the grid names none."""
    paper, grid = comparison.grid.paper, comparison.grid
    if paper is None:
        return []
    heading, note = _introduction(grid, paper)
    is_comparable = grid.dataset == COCO and deviation(grid) is None
    verdicts = [_cell_verdicts(comparison, paper)] if is_comparable else []
    metrics = [metric for metric in (*AP_METRICS, *MASK_METRICS) if any(metric in row for row in paper.rows.values())]
    printed = _printed_table(f"{paper.table}, {paper.dataset}", paper.rows, metrics, grid)
    test_dev: list[Block] = [
        Heading("The paper's numbers on COCO test-dev: no verdict"),
        "The annotations of test-dev are not public: these numbers cannot be compared with anything measured here and "
        f"get no verdict ({paper.source}). {IN_BRACKETS.strip()}",
        _printed_table(f"{paper.table}, COCO test-dev", paper.test_dev, _metrics(paper.test_dev), grid),
    ]
    return [Heading(heading), note, printed, *verdicts, *(test_dev if paper.test_dev else [])]


def _metrics(printed: dict[str, dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(metric for row in printed.values() for metric in row))


def _introduction(grid: Manifest, paper: Paper) -> tuple[str, Line]:
    """The heading and the first paragraph."""
    printed = f"Numbers printed in the paper ({paper.source}). "
    if grid.dataset != COCO:
        differ = f"Data set, model and schedule differ: no value can be compared with one measured on {grid.dataset}, "
        text = printed + IN_BRACKETS + differ + "at most the direction and the pattern of the differences."
        return f"The paper's numbers: COCO, NOT comparable with {grid.dataset}", text
    if (other := deviation(grid)) is not None:
        note = printed + "This is not the published setting: " + other + "."
        return "The paper's numbers: NOT comparable with this setting", note
    rule = "Each printed value against the mean over seeds, by " + RULE
    return (
        "The paper's numbers",
        rule
        + _looks_note(grid)
        + ". Cells of one table are not independent; they are not corrected for multiple comparisons.",
    )


def _looks_note(grid: Manifest) -> str:
    """How the rule is widened if seeds were added after results were known."""
    if not grid.looks:
        return ""
    level = f"{100 * verdict.confidence(len(grid.looks) + 1):g}%"
    return f", at {level} instead of {100 * verdict.confidence(1):g}% because {looks_text(grid.looks)}"


def _printed_table(title: str, printed: dict[str, dict[str, float]], metrics: list[str], grid: Manifest) -> Table:
    """The paper's rows, each number with its difference from the paper's own baseline."""

    def cell(arm: str, metric: str) -> str:
        value, base = printed[arm].get(metric), printed.get(grid.baseline_of(arm), {}).get(metric)
        is_baseline = arm in (grid.baseline, *grid.baselines.values())
        if value is None or base is None or is_baseline:
            return number(value, 1)
        return f"{number(value, 1)} ({signed(value - base, 1)})"

    arms = [arm for arm in grid.arms if arm in printed]
    return table([title, *metrics], [[arm_title(grid, arm), *(cell(arm, m) for m in metrics)] for arm in arms])


def _cell_verdicts(comparison: Comparison, paper: Paper) -> Table:
    """One row per arm of the paper's table that was run: the verdict on each printed value, with the measured mean."""
    metrics = _metrics(paper.rows)
    arms = [arm for arm in paper.rows if arm in comparison.grid.arms]
    rows = [[arm, *(_verdict(comparison, arm, m, paper.rows[arm].get(m)) for m in metrics)] for arm in arms]
    return table([f"{paper.table}, verdict", *metrics], rows)


def _verdict(comparison: Comparison, arm: str, metric: str, printed: float | None) -> str:
    if printed is None:
        return ""
    summary, decided = comparison.summary(metric, arm), incomplete(comparison, [arm])
    if summary.mean is None:
        return f"{decided if arm in comparison.mixed else verdict.NOT_RUN}: {number(printed, 1)}"
    looks = len(comparison.grid.looks) + 1
    decided = decided or verdict.decide(metric, printed, summary, comparison.noise(metric), looks).text
    return f"{decided}: {number(printed, 1)}, measured {number(summary.mean)}"

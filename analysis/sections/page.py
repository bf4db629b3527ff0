"""The report, section by section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Bullets, CodeBlock, Figure, Page, Row, Section, Table, table
from analysis.rendering.text import BREAK, Line, code, join, strong
from analysis.sections import accounting, answers_section, gpu_section, grid_section, released_section, timing_section
from analysis.sections.claims import ABLATION, claims_table, coco_command
from analysis.sections.comparability import COCO, deviation, incomplete
from analysis.sections.paper_numbers import RULE
from analysis.sections.summary import equivalence_sentences
from analysis.stats.comparison import Comparison, describe_state
from analysis.stats.timing import TimingComparison
from analysis.stats.verdict import NOT_COMPARABLE, NOT_RUN
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

TITLE = "Dynamic R-CNN: what was measured"  # report.py recognises earlier reports by it
REBUILD_TEXT = (
    "The first two commands write a report of your runs into the run folder. The third copies the records that are "
    "committed, the fourth writes this page from them, and the last compares this page with the records."
)
REBUILD = (
    "python analysis/images.py",
    "python analysis/report.py",
    "python analysis/records.py runs=runs out=analysis/records",
    "python analysis/report.py runs=analysis/records against=analysis/replication out=REPORT.md",
    "python analysis/report.py check=true",
)
MOST_LISTED = 10  # unfinished runs of a grid
CLAIM_RULE = (
    ("Each verdict follows from " + RULE + ", which was fixed before any run on COCO; ")
    + code("docs/operating-characteristics.md")
    + " tabulates how often it is right."
)
TABLES = {  # grid -> what it reproduces
    "ablation": "Table 2: the components",
    "iou_topk": "Table 3: K_I",
    "interval": "Table 4: C",
    "beta": "Table 5: fixed and dynamic beta",
    "backbones": "Table 1: backbones and schedules",
    "speed": "Table 6: inference speed",
    "mask": "Table 7: Mask R-CNN",
    "released": "released weights, evaluated again",
    "controls": "not in the paper: fixed T and beta, L1, RPN NMS",
    "dynamics": "not in the paper: dynamics, schedule or end point; other statistics",
    "dsl": "not in the paper: when a smaller beta helps",
    "cascade": "not in the paper: Cascade R-CNN with both components",
}


def build(records: RunTable, against: Section | None = None) -> Page:
    """The whole report. against: the section that compares it with another set of runs, if there is one."""
    comparisons = [Comparison(records, grid) for grid in records.grids if grid.timed_arms is None]
    timings = [TimingComparison(records, grid) for grid in records.grids if grid.timed_arms is not None]
    overhead = timing_section.overhead_verdicts(timings, gpu_section.overhead_verdicts(records.gpu))
    not_run = _not_run(records, comparisons, timings)
    grids = [
        (grid_section if comparison.grid.trains else released_section).section(records, comparison)
        for comparison in comparisons
    ]
    figures = [block for section in grids for block in section.blocks if isinstance(block, Figure)]
    sections = [
        answers_section.section(comparisons, timings, figures),
        *([against] if against else []),
        Section("claims", "The paper's headline claims", [CLAIM_RULE, claims_table(comparisons, overhead)]),
        Section("not-run", "What was not run", [paper_tables([*comparisons, *timings]), Bullets(not_run)]),
        *grids,
        *(timing_section.section(records, each) for each in timings),
        *gpu_section.sections(records.gpu),
        accounting.section(records),
        Section("problems", "Problems found while reading", [Bullets(records.problems or ["None."])]),
        Section("rebuild", "How to rebuild this page", [REBUILD_TEXT, CodeBlock(REBUILD)]),
    ]
    return Page(TITLE, sections, accounting.run_facts(records))


def _not_run(records: RunTable, comparisons: list[Comparison], timings: list[TimingComparison]) -> list[Line]:
    lines = gpu_section.not_run(records.gpu)
    on_coco = [each.grid for each in comparisons if each.grid.dataset == COCO and each.grid.trains]
    if all(deviation(grid) is not None for grid in on_coco):
        what = "no grid in the published setting" if on_coco else "no grid that trains on it"
        lines.append(f"COCO: these records have {what}. " + code(coco_command(ABLATION)))
    for grid, runs in [(each.grid, each.runs) for each in comparisons] + [(each.grid, each.runs) for each in timings]:
        lines += _unfinished(grid, runs[runs["state"] != "done"])
    return lines or ["All runs of all grids are done."]


def _unfinished(grid: Manifest, runs: pd.DataFrame) -> list[str]:
    """A line for each run; for many, one for each state."""
    states = [describe_state(row.state, row.cause) for row in runs.itertuples()]
    if len(runs) > MOST_LISTED:
        counts = Counter(states).most_common()
        return [f"{grid.key}: {plural('run', count)} {state}, listed in its section" for state, count in counts]
    named = zip(runs["arm"], runs["seed"], states, strict=True)
    return [f"{grid.key}: {arm}, seed {seed}: {state}" for arm, seed, state in named]


def paper_tables(comparisons: Sequence[Comparison | TimingComparison]) -> Table:
    """One row per table of the paper: how much of it has been run, and the command that runs it."""
    rows: list[Row] = []
    for grid, what in TABLES.items():
        options = " weights=FILE" if grid == "released" else ""
        rows.append([what, code(grid), _progress(grid, comparisons), code(coco_command(grid) + options)])
    return table(["table (COCO)", "grid", "verdict", "command"], rows, text_columns=4)


def _progress(grid: str, comparisons: Sequence[Comparison | TimingComparison]) -> Line:
    on_coco = [each for each in comparisons if each.grid.dataset == COCO and each.grid.name == grid]
    published = [each for each in on_coco if _is_comparable(each)]
    if not published:
        others = f"; {plural('grid', len(on_coco))} with another setting or device, {NOT_COMPARABLE}" if on_coco else ""
        return strong(NOT_RUN) + others
    done, total = sum(each.n_done for each in published), sum(len(each.runs) for each in published)
    verdicts = "; its section has the verdicts on the printed values" if any(f.grid.paper for f in published) else ""
    claims = [line for each in published if isinstance(each, Comparison) for line in _equivalence(each)]
    return join(BREAK, [f"{done} of {plural('run', total)} done{verdicts}", *claims])


def _equivalence(comparison: Comparison) -> list[Line]:
    """The verdicts on claims of equivalence; why there is none if runs are lost or not finished."""
    arms = list(dict.fromkeys(arm for claim in comparison.grid.equivalence for arm in claim.arms))
    reason = incomplete(comparison, arms)
    return [strong(reason)] if arms and reason else equivalence_sentences(comparison)


def _is_comparable(each: Comparison | TimingComparison) -> bool:
    if isinstance(each, TimingComparison):
        return timing_section.why_not_comparable(each) is None
    return deviation(each.grid) is None

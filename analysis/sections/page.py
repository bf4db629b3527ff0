"""The report, section by section."""

from __future__ import annotations

from analysis.reading.records import Records
from analysis.rendering.markup import bullets, escape, one_of
from analysis.rendering.model import Page, Section
from analysis.sections import accounting
from analysis.sections import released_section as retest
from analysis.sections.claims import ARM, COCO, GRID, claims_table, coco_command, deviation, difference_text
from analysis.sections.grid_figures import figures
from analysis.sections.grid_section import section
from analysis.sections.paper_tables import paper_tables
from analysis.sections.run_facts import run_facts
from analysis.sections.timing_section import speed_section
from analysis.stats.comparison import Comparison, describe_state
from analysis.stats.timing import Speed, overhead_texts

TOLD_APART = {
    True: " (differs from the baseline)",
    False: " (cannot be told apart from the baseline)",
    None: "",
}


TITLE = "Dynamic R-CNN: what was measured"


def build(records: Records) -> Page:
    """The whole report."""
    comparisons = [Comparison(records, grid) for grid in records.grids if grid.timed_arms is None]
    speeds = [Speed(records, grid) for grid in records.grids if grid.timed_arms is not None]
    sections = _top(comparisons, speeds)
    for comparison in comparisons:
        blocks = (
            section(records, comparison, figures(records, comparison))
            if comparison.grid.trains
            else retest.section(records, comparison)
        )
        sections.append(Section(comparison.grid.key, blocks))
    sections += [Section(speed.grid.key, speed_section(records, speed)) for speed in speeds]
    lines = [escape(line) for line in records.problems] or ["None."]
    sections += [
        Section("accounting", accounting.section(records)),
        Section("not-run", ["## What was not run", bullets(_not_run(comparisons, speeds))]),
        Section("problems", ["## Problems found while reading", bullets(lines)]),
        Section("rebuild", ["## How to rebuild this page", *_how_to()]),
    ]
    return Page(TITLE, sections, run_facts(records))


def _top(comparisons: list[Comparison], speeds: list[Speed]) -> list[Section]:
    both: list[Comparison | Speed] = [*comparisons, *speeds]
    states = {row.path: row.state for each in both for row in each.runs.itertuples()}  # grids have runs in common
    done, asked = list(states.values()).count("done"), len(states)
    state = f"{done} of {one_of('run', asked)} done. Do not edit; see the last section."
    small = "Results at small scale: they show whether the mechanism works here, and say nothing on the claims above."
    elsewhere = [c for c in comparisons if c.grid.dataset != COCO and c.grid.trains]
    summaries = [_summary(c) for c in elsewhere if not _is_part(c, elsewhere)] or ["No such run."]
    return [
        Section("head", [f"Generated from the records of {one_of('grid', len(both))}: {state}"]),
        Section("claims", ["## The paper's headline claims", claims_table(comparisons, overhead_texts(speeds))]),
        Section("paper-tables", ["## The paper's tables", paper_tables(both)]),
        Section("other-data", ["## What the runs on other data sets show", small, bullets(summaries)]),
    ]


def _compared(comparison: Comparison) -> str:
    """The arm of the summary: the full method, or the last."""
    return ARM if ARM in comparison.grid.arms else (comparison.others or [comparison.grid.baseline])[-1]


def _is_part(comparison: Comparison, others: list[Comparison]) -> bool:
    """Whether another grid's summary is over more runs, these among them: no second result."""
    arms = (_compared(comparison), comparison.grid.baseline)
    own = set(comparison.paths(*arms))
    return any(own < set(other.paths(_compared(other), other.grid.baseline)) for other in others)


def _summary(comparison: Comparison) -> str:
    """The full method against the baseline in one line; the section has the rest."""
    grid, arm = comparison.grid, _compared(comparison)
    head = f"**{escape(grid.dataset)}**, {escape(grid.title)}"
    texts = []
    for metric in ("AP", "AP90"):
        difference, text = comparison.difference(metric, arm), difference_text(comparison, metric, arm)
        if difference is not None and text is not None:
            texts.append(f"{metric} {text.removeprefix('measured ')}{TOLD_APART[difference.told_apart]}")
    if not texts:
        count = f"{comparison.n_done} of {one_of('run', len(comparison.runs))}"
        return f"{head}: nothing to compare yet ({count} done)."
    return f"{head}: {escape(arm)} minus {escape(grid.baseline_of(arm))}, {'; '.join(texts)}."


def _not_run(comparisons: list[Comparison], speeds: list[Speed]) -> list[str]:
    lines = []
    on_coco = [each.grid for each in comparisons if each.grid.dataset == COCO and each.grid.trains]
    if all(deviation(grid) is not None for grid in on_coco):
        what = "no grid of the published setting" if on_coco else "no grid on it"
        lines.append(f"COCO: {what} is in these records. `{coco_command(GRID)}`")
    grids: list[Comparison | Speed] = [*comparisons, *speeds]
    for each in grids:
        rows = each.runs[each.runs["state"] != "done"]
        lines += [
            f"{escape(each.grid.key)}: {escape(row.arm)}, seed {row.seed}: "
            f"{escape(describe_state(row.state, row.cause))}"
            for row in rows.itertuples()
        ]
    return lines or ["Every run that a grid asks for is done."]


def _how_to() -> list[str]:
    return [
        "From run directories, and again from the records that are committed beside the code; "
        "the last command compares this page with them and changes nothing:",
        "```\n"
        "python analysis/images.py\n"
        "python analysis/report.py\n"
        "python analysis/records.py runs=runs out=analysis/records\n"
        "python analysis/report.py runs=analysis/records out=REPORT.md\n"
        "python analysis/report.py check=true\n"
        "```",
    ]

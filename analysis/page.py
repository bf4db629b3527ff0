"""REPORT.md as text, and the figures that it links to."""

from __future__ import annotations

from dataclasses import dataclass

from analysis import accounting, retest
from analysis.claims import ARM, COCO, COMMAND, claims_table, deviation, difference_text
from analysis.collect import Records
from analysis.comparison import Comparison, describe_state
from analysis.markdown import bullets, escape, figure, one_of
from analysis.paper_tables import paper_tables
from analysis.section_figures import FigureFile, figures
from analysis.sections import section
from analysis.speed import Speed, overhead_texts
from analysis.speed_section import speed_section

VERDICTS = {
    True: " (differs from the baseline)",
    False: " (cannot be told apart from the baseline)",
    None: "",
}


@dataclass(frozen=True)
class Page:
    """The report: its Markdown, and its figures, which lie in the folder that the Markdown links to."""

    markdown: str
    figures: list[FigureFile]


def build(records: Records, figure_folder: str) -> Page:
    """The whole report. `figure_folder` is the relative folder for the links to figures."""
    comparisons = [Comparison(records, grid) for grid in records.grids if grid.measured is None]
    speeds = [Speed(records, grid) for grid in records.grids if grid.measured is not None]
    all_figures: list[FigureFile] = []
    blocks = _top(comparisons, speeds)
    for comparison in comparisons:
        if not comparison.grid.trains:
            blocks += retest.section(records, comparison)
            continue
        own = figures(records, comparison)
        links = [figure(file.title, f"{figure_folder}/{file.name}", file.caption) for file in own]
        blocks += section(records, comparison, links)
        all_figures += own
    for speed in speeds:
        blocks += speed_section(records, speed)
    blocks += accounting.section(records)
    blocks += ["## What was not run", bullets(_not_run(comparisons, speeds))]
    blocks += [
        "## Problems found while reading",
        bullets([escape(line) for line in records.problems] or ["None."]),
    ]
    blocks += ["## How to rebuild this page", *_how_to()]
    return Page("\n\n".join(blocks) + "\n", all_figures)


def _top(comparisons: list[Comparison], speeds: list[Speed]) -> list[str]:
    both: list[Comparison | Speed] = [*comparisons, *speeds]
    states = {row.path: row.state for each in both for row in each.runs.itertuples()}  # grids have runs in common
    done, asked = list(states.values()).count("done"), len(states)
    return [
        "# Dynamic R-CNN: what was measured",
        f"Generated from the records of {one_of('grid', len(both))}: "
        f"{done} of {one_of('run', asked)} done. Do not edit; see the last section.",
        "## The paper's headline claims",
        claims_table(comparisons, overhead_texts(speeds)),
        "## The paper's tables",
        paper_tables(both),
        "## What the runs on other data sets show",
        "Results at small scale: they show whether the mechanism works here, and say nothing on the claims above.",
        bullets([_summary(c) for c in comparisons if c.grid.dataset != COCO and c.grid.trains] or ["No such run."]),
    ]


def _summary(comparison: Comparison) -> str:
    """The full method against the baseline in one line; the section has the rest."""
    grid = comparison.grid
    head = f"**{escape(grid.dataset)}**, {escape(grid.title)}"
    arm = ARM if ARM in grid.arms else (comparison.others or [grid.baseline])[-1]
    texts = []
    for metric in ("AP", "AP90"):
        difference, text = comparison.difference(metric, arm), difference_text(comparison, metric, arm)
        if difference is not None and text is not None:
            texts.append(f"{metric} {text.removeprefix('measured ')}{VERDICTS[difference.told_apart]}")
    if not texts:
        count = f"{comparison.n_done} of {one_of('run', len(comparison.runs))}"
        return f"{head}: nothing to compare yet ({count} done)."
    return f"{head}: {escape(arm)} minus {escape(grid.baseline_of(arm))}, {'; '.join(texts)}."


def _not_run(comparisons: list[Comparison], speeds: list[Speed]) -> list[str]:
    lines = []
    on_coco = [each.grid for each in comparisons if each.grid.dataset == COCO and each.grid.trains]
    if all(deviation(grid) is not None for grid in on_coco):
        what = "no grid of the published setting" if on_coco else "no grid on it"
        lines.append(f"COCO: {what} is in these records. `{COMMAND}`")
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
        "python analysis/report.py runs=analysis/records\n"
        "python analysis/report.py check=true\n"
        "```",
    ]

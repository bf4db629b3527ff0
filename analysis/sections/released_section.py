"""The section of a grid that evaluates weights from a file: one number per metric, without noise between seeds.

Nothing here is averaged, or compared with runs that were trained.
"""

from __future__ import annotations

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Block, Heading, Number, Row, Section, Table, TableCell, table
from analysis.rendering.text import NOTHING, Line, code, number, strong
from analysis.sections.claims import retest_text
from analysis.sections.comparability import COCO, deviation
from analysis.sections.grid_section import grid_facts, grid_title
from analysis.sections.tables import arm_title, state_counts, trained_run_table
from analysis.stats import verdict
from analysis.stats.comparison import Comparison
from dynamic_rcnn.metrics.names import AP_METRICS
from dynamic_rcnn.wording import plural


def section(records: RunTable, comparison: Comparison) -> Section:
    """The section of a grid whose runs evaluate weights."""
    grid = comparison.grid
    assert grid.weights is not None
    weights = code(grid.weights.name) + " (sha256 " + code(grid.weights.sha256) + ")"
    noise = " was evaluated. These numbers have no noise between seeds and are not compared with those of trained runs."
    blocks = [
        grid_facts(grid) + ". Nothing was trained: " + weights + noise,
        Heading("AP of the weights"),
        f"AP in percent on {grid.dataset}.",
        _ap_table(comparison),
        *_printed_blocks(comparison),
        Heading("Runs"),
        "The name of a run's directory ends in its id. A commit is dirty if it had uncommitted changes.",
        trained_run_table(records, comparison),
    ]
    return Section(
        grid.key, grid_title(grid), blocks, f"{comparison.n_done} of {plural('run', len(comparison.runs))} done."
    )


def _ap_table(comparison: Comparison) -> Table:
    rows: list[Row] = []
    for arm in comparison.grid.arms:
        images = comparison.averaged.loc[comparison.averaged["arm"] == arm, "images"].dropna()
        count = f"{int(images.iloc[0]):,}" if len(images) else NOTHING
        values = [Number(comparison.summary(metric, arm).mean) for metric in AP_METRICS]
        cells = [TableCell(value, comparison.paths(arm)) for value in values]
        rows.append([arm_title(comparison.grid, arm), state_counts(comparison, arm), count, *cells])
    return table(["arm", "runs", "images", *AP_METRICS], rows, text_columns=2)


def _printed_blocks(comparison: Comparison) -> list[Block]:
    """The printed numbers with a verdict on each, or why there is none."""
    grid, paper = comparison.grid, comparison.grid.paper
    if paper is None:
        return []
    reason = "data set " + code(grid.dataset) if grid.dataset != COCO else deviation(grid)
    rows: list[Row] = [
        [arm, metric, number(value, 1), _verdict(retest_text(comparison, arm, metric, value), reason)]
        for arm, row in paper.rows.items()
        if arm in grid.arms
        for metric, value in row.items()
    ]
    rule = f"{paper.table} ({paper.source}) on {paper.dataset}, by the rule for released weights in "
    note = rule + code("analysis/stats/verdict.py") + f": within {verdict.MARGIN_RETEST}, half a printed digit."
    return [Heading("The printed numbers"), note, table(["arm", "metric", "printed", "verdict"], rows, text_columns=2)]


def _verdict(text: Line | None, reason: Line | None) -> Line:
    if text is None:
        return strong(verdict.NOT_RUN)
    return text if reason is None else strong(verdict.NOT_COMPARABLE) + ": " + reason

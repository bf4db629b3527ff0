"""The section of a grid whose runs evaluate weights from a file: one number each, and no noise between seeds.

Nothing here is averaged, or held against runs that were trained.
"""

from __future__ import annotations

from analysis.reading.records import Records
from analysis.rendering.markup import NOTHING, code, escape, number
from analysis.rendering.model import Block, Cell, Row, Table, numbers, table
from analysis.sections.claims import COCO, deviation, retest_text
from analysis.sections.tables import arm_title, run_table, state_counts
from analysis.stats import verdict
from analysis.stats.comparison import Comparison
from dynamic_rcnn.metrics.names import AP_METRICS


def section(records: Records, comparison: Comparison) -> list[Block]:
    """The section's blocks of Markdown, from its heading on."""
    grid = comparison.grid
    assert grid.weights is not None
    return [
        f"## {escape(grid.title)} ({escape(grid.dataset)})",
        f"Grid {code(grid.name)}, setting {code(grid.setting)}, data set {code(grid.dataset)}. Nothing was trained: "
        f"{code(grid.weights.name)} (sha256 {code(grid.weights.sha256)}) was evaluated. There is no noise "
        "between seeds in these numbers, and they are not compared with those of runs that were trained.",
        "### AP of the weights",
        f"AP in percent on {escape(grid.dataset)}.",
        _metrics(comparison),
        *_printed(comparison),
        "### Runs",
        "An id names the run's directory; a dirty commit had changes that were not committed.",
        run_table(records, comparison),
    ]


def _metrics(comparison: Comparison) -> Table:
    rows: list[Row] = []
    for arm in comparison.grid.arms:
        images = comparison.averaged.loc[comparison.averaged["arm"] == arm, "images"].dropna()
        means = [comparison.summary(metric, arm).mean for metric in AP_METRICS]
        values = [Cell(number(mean), numbers(value=mean), comparison.paths(arm)) for mean in means]
        count = f"{int(images.iloc[0]):,}" if len(images) else NOTHING
        rows.append([arm_title(comparison.grid, arm), state_counts(comparison, arm), count, *values])
    return table(["arm", "runs", "images", *AP_METRICS], rows, text_columns=2)


def _printed(comparison: Comparison) -> list[Block]:
    """The printed numbers with a verdict on each, or why there can be none."""
    grid, paper = comparison.grid, comparison.grid.paper
    if paper is None:
        return []
    reason = f"data set {code(grid.dataset)}" if grid.dataset != COCO else deviation(grid)
    rows: list[Row] = [
        [escape(arm), metric, number(value, 1), _verdict(comparison, arm, metric, value, reason)]
        for arm, row in paper.rows.items()
        if arm in grid.arms
        for metric, value in row.items()
    ]
    note = (
        f"{escape(paper.table)} ({escape(paper.source)}) on {escape(paper.dataset)}, by the rule for released weights "
        f"in `analysis/stats/verdict.py`: within {verdict.MARGIN_RETEST}, half a printed digit."
    )
    return ["### The printed numbers", note, table(["arm", "metric", "printed", "verdict"], rows, text_columns=2)]


def _verdict(comparison: Comparison, arm: str, metric: str, printed: float, reason: str | None) -> str:
    text = retest_text(comparison, arm, metric, printed)
    if text is None:
        return f"**{verdict.NOT_RUN}**"
    return text if reason is None else f"**{verdict.NOT_COMPARABLE}**: {reason}"

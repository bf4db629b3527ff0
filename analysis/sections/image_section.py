"""What a grid's detections say over images, in its section of the report."""

from __future__ import annotations

from typing import Any

from analysis.detections.changes import MIN_SCORE
from analysis.detections.tide import KINDS
from analysis.reading.image_statistics import COMMAND, ImageStatistics
from analysis.rendering.markup import NOTHING, escape, interval, number, signed
from analysis.rendering.model import Block, Cell, Picture, Row, Table, numbers, table
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.metrics.names import AP_METRICS

TOLERANCE = 1e-6  # in points of AP, for sums in another order


def blocks(found: ImageStatistics | None, comparison: Comparison) -> list[Block]:
    """The section's part of it, in Markdown."""
    if found is None:
        return ["### Over images", f"Not computed: `{COMMAND}` does, from the saved detections and the ground truth."]
    averaged = set(comparison.averaged["path"])
    if averaged != set(found.runs):
        made = f"made of {len(found.runs)} runs, not of the {len(averaged)} that are finished and averaged now"
        return ["### Over images", f"Not shown: {made}; `{COMMAND}` makes it again."]
    if (wrong := _contradiction(found, comparison)) is not None:
        return ["### Over images", f"Not shown: {wrong}; `{COMMAND}` makes it again."]
    return [
        "### Over images",
        f"Difference of the means over seeds in points of AP on the {found.images} validation images, in brackets its "
        f"{LEVEL} percentile interval over {found.resamples:,} resamples of them, the same for all arms (paired "
        "bootstrap); **bold** where it leaves out 0, not corrected for the number of arms. It says how far the "
        "difference hangs on which images were evaluated, for these trained models; the noise between seeds is not in "
        "it.",
        _difference_table(found, comparison),
        "### Where AP is lost",
        "What AP at one IoU threshold would gain, in points, if the errors of one kind were fixed (TIDE's kinds; "
        "background below IoU 0.1); mean over seeds. Gains do not add up.",
        _error_table(found, comparison),
        *_change_blocks(found, comparison),
        *_sheet_blocks(found, comparison),
    ]


def _contradiction(found: ImageStatistics, comparison: Comparison) -> str | None:
    """The first difference that is not the one of the runs' own metrics."""
    for row in found.differences:
        own = comparison.difference(row["metric"], row["arm"]) if row["arm"] in comparison.others else None
        if own is not None and row["value"] is not None and abs(100 * row["value"] - own.value) > TOLERANCE:
            said = f"{escape(row['arm'])} differs by {signed(100 * row['value'])} in {escape(row['metric'])} there"
            return f"{said}, by {signed(own.value)} in the runs' own metrics"
    return None


def _difference_table(found: ImageStatistics, comparison: Comparison) -> Table:
    cells = {(row["arm"], row["metric"]): row for row in found.differences}
    rows: list[Row] = [
        [
            escape(arm),
            *(
                _interval_cell(cells.get((arm, m)), comparison.paths(arm, comparison.grid.baseline_of(arm)))
                for m in AP_METRICS
            ),
        ]
        for arm in comparison.others
    ]
    return table(["arm minus baseline", *AP_METRICS], rows)


def _interval_cell(row: dict[str, Any] | None, runs: list[str]) -> Cell:
    if row is None or None in (row["value"], row["low"], row["high"]):
        return Cell(NOTHING)
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    text = f"**{signed(value)}**" if low > 0 or high < 0 else signed(value)
    return Cell(f"{text}<br>{interval(low, high)}", {"difference": value, "low": low, "high": high}, runs)


def _error_table(found: ImageStatistics, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for iou in sorted({row["iou"] for row in found.errors}):
        own = {row["arm"]: row for row in found.errors if row["iou"] == iou}
        for arm in (arm for arm in comparison.grid.arms if arm in own):
            values = [own[arm][name] for name in ("AP", *KINDS)]
            rows.append([f"{iou:.2f}", escape(arm), *(_gain_cell(value, comparison.paths(arm)) for value in values)])
    return table(["IoU", "arm", "AP", *KINDS], rows, text_columns=2)


def _gain_cell(value: float | None, runs: list[str]) -> Cell:
    percent = None if value is None else 100 * value
    return Cell(number(percent), numbers(mean=percent), runs)


def _change_blocks(found: ImageStatistics, comparison: Comparison) -> list[Block]:
    arms = [arm for arm in ("both", *comparison.others) if arm in found.changes][:1]
    if not arms:
        return []
    runs = [comparison.paths(each) for each in (comparison.grid.baseline_of(arms[0]), arms[0])]
    rows = [_change_row(row, *runs) for row in found.changes[arms[0]]]
    text = (
        f"Classes and object sizes in which AP of {escape(arms[0])} and of the baseline differ most; mean over seeds."
    )
    header = ["class", "size", "AP, baseline", f"AP, {escape(arms[0])}", "difference"]
    return ["### What changed most", text, table(header, rows, text_columns=2)]


def _change_row(row: dict[str, Any], baseline: list[str], arm: list[str]) -> Row:
    """baseline, arm: their runs."""
    theirs, ours, difference = (100 * row[name] for name in ("baseline", "arm", "difference"))
    return [
        escape(row["category"]),
        escape(row["size"]),
        Cell(number(theirs), numbers(mean=theirs), baseline),
        Cell(number(ours), numbers(mean=ours), arm),
        Cell(signed(difference), numbers(difference=difference), [*baseline, *arm]),
    ]


def _sheet_blocks(found: ImageStatistics, comparison: Comparison) -> list[Block]:
    sheet = found.sheet
    if sheet is None:
        return []
    caption = (
        f"{escape(comparison.grid.dataset)}: the {sheet.images} images whose F1 (mean over IoU 0.5 to 0.95 and over "
        f"seeds, detections with a score of at least {MIN_SCORE}) differs most between {escape(sheet.baseline)} and "
        f"{escape(sheet.arm)}; beside each image the two values. Left the ground truth, then the detections of the "
        "first seed of both. They are the extremes, chosen by the difference itself: no sample of what is usual."
    )
    return [Picture(f"{comparison.grid.key}-images.png", "Where two arms differ most", caption, sheet.png)]

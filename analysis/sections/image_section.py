"""The part of a grid's section about its saved detections: kinds of errors, largest changes."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.detections.changes import MIN_SCORE
from analysis.detections.tide import IOUS, KINDS
from analysis.reading.image_statistics import COMMAND, ImageStatistics
from analysis.rendering.model import Block, Heading, Number, Picture, Row, Table, TableCell, table
from analysis.rendering.text import code, file_link
from analysis.sections import detection_figures
from analysis.sections.claims import FULL_METHOD
from analysis.sections.grid_figures import shown_arms
from analysis.stats.comparison import Comparison

HEADING = Heading("Where AP is lost")
SPLITS = {"val": "validation"}  # how metrics.json names it -> as a word


def compared_arm(comparison: Comparison, arms: Sequence[str]) -> str:
    """The one of `arms` whose images and classes are compared with its baseline's.

    The full method, or in a grid without it the arm whose AP differs most from its baseline's, as in the tables.
    """

    def size(arm: str) -> float:
        found = comparison.difference("AP", arm)
        return abs(found.value) if found else 0.0

    return FULL_METHOD if FULL_METHOD in arms else max(arms, key=size)


def blocks(results: ImageStatistics | None, comparison: Comparison) -> list[Block]:
    """The blocks of this part, or a text that says why they are not shown."""
    if results is None:
        how = "computes it from the saved detections and the ground truth."
        return [HEADING, "Not computed. " + code(COMMAND) + f" {how}"]
    if reason := _why_not_shown(results, comparison):
        return [HEADING, f"Not shown: {reason}; run " + code(COMMAND) + " again."]
    return [
        HEADING,
        f"On the {_images_text(results, comparison)}: the gain in AP at one IoU threshold, in points, if all errors of "
        "one kind were fixed (TIDE kinds; background is below IoU 0.1); mean over seeds. Gains do not add up.",
        _error_table(results, comparison),
        detection_figures.error_figure(results, comparison, shown_arms(comparison)),
        *_score_blocks(results, comparison),
        *_change_blocks(results, comparison),
        *_sheet_blocks(results, comparison),
        *_browser_blocks(results),
    ]


def _images_text(results: ImageStatistics, comparison: Comparison) -> str:
    """'2000 images of the test split', as named in metrics.json; the split is left out if none or several are named."""
    splits = set(comparison.averaged["split"])
    if len(splits) == 1 and isinstance(split := splits.pop(), str):
        return f"{results.images} images of the {SPLITS.get(split, split)} split"
    return f"{results.images} images that the runs were evaluated on"


def _why_not_shown(results: ImageStatistics, comparison: Comparison) -> str | None:
    """Why the results are out of date: other runs are finished now, or their metrics differ; None if they fit."""
    averaged = set(comparison.averaged["path"])
    if averaged != set(results.runs):
        return f"computed from {len(results.runs)} runs, while {len(averaged)} runs are finished and averaged now"
    return comparison.image_fault if results.sampling else None


def _error_table(results: ImageStatistics, comparison: Comparison) -> Table:
    rows: list[Row] = []
    for iou in sorted({row.iou for row in results.errors}):
        own = {row.arm: row for row in results.errors if row.iou == iou}
        for arm in (arm for arm in comparison.grid.arms if arm in own):
            values = [getattr(own[arm], name) for name in ("AP", *KINDS)]
            percents = [None if value is None else 100 * value for value in values]
            runs = comparison.paths(arm)
            rows.append([f"{iou:.2f}", arm, *(TableCell(Number(value, "mean"), runs) for value in percents)])
    return table(["IoU", "arm", "AP", *KINDS], rows, text_columns=2)


def _score_blocks(results: ImageStatistics, comparison: Comparison) -> list[Block]:
    """What the scores tell; nothing if the file is of an older version."""
    if not results.curves:
        return []
    arms = shown_arms(comparison)
    by_arm = {(row.arm, row.iou): row.error for row in results.calibration}
    rows: list[Row] = []
    for arm in comparison.grid.arms:
        if (arm, IOUS[0]) in by_arm:
            runs = comparison.paths(arm)
            errors = [by_arm[arm, iou] for iou in IOUS]
            percents = [None if error is None else 100 * error for error in errors]
            rows.append([arm, *(TableCell(Number(percent, "mean"), runs) for percent in percents)])
    confusion = detection_figures.confusion_figure(results, comparison, _confused_arms(results, comparison))
    own: list[Block] = [Heading("Which classes are confused"), confusion] if confusion else []
    return [
        detection_figures.precision_figure(results, comparison, arms),
        Heading("Is a confident box a well-placed one?"),
        "Expected calibration error in percent: the mean gap between the score of detections and the share of true "
        "positives among them. Mean over seeds, computed by hotcoco. Exploratory.",
        table(["arm", *(f"IoU {iou}" for iou in IOUS)], rows),
        detection_figures.calibration_figure(results, comparison, arms),
        *own,
    ]


def _confused_arms(results: ImageStatistics, comparison: Comparison) -> list[str]:
    """The arms whose confusion is shown: those of the contact sheet, or the baseline alone."""
    return [results.sheet.baseline, results.sheet.arm] if results.sheet else [comparison.grid.baseline]


def _change_blocks(results: ImageStatistics, comparison: Comparison) -> list[Block]:
    """Where the arm on the contact sheet differs most from its baseline; without a sheet, the arm of `compared_arm`."""
    arms = [arm for arm in comparison.others if arm in results.changes]
    if not arms:
        return []
    sheet = results.sheet
    arm = sheet.arm if sheet and sheet.arm in arms else compared_arm(comparison, arms)
    baseline = comparison.grid.baseline_of(arm)
    ours, theirs = comparison.paths(arm), comparison.paths(baseline)
    if results.pairs_seeds:
        ours, theirs = comparison.paired_paths(arm, baseline)
    rows: list[Row] = [
        [
            row.category,
            row.size,
            TableCell(Number(100 * row.baseline, "mean"), theirs),
            TableCell(Number(100 * row.arm, "mean"), ours),
            TableCell(Number(100 * row.difference, "difference", is_signed=True), [*theirs, *ours]),
        ]
        for row in results.changes[arm]
    ]
    text = (
        f"The classes and object sizes in which AP of {arm} and of {baseline} differ most; mean over {_seeds(results)}."
    )
    header = ["class", "size", "AP, baseline", f"AP, {arm}", "difference"]
    return [Heading("What changed most"), text, table(header, rows, text_columns=2)]


def _sheet_blocks(results: ImageStatistics, comparison: Comparison) -> list[Block]:
    sheet = results.sheet
    if sheet is None:
        return []
    caption = (
        f"{comparison.grid.dataset}: the {len(sheet.images)} images whose F1 differs most between {sheet.baseline} and "
        f"{sheet.arm} (mean over {_seeds(results)} and IoU 0.5 to 0.95, of detections with a score of at least "
        f"{MIN_SCORE}), with both values. From the left: ground truth, then the detections of each arm's first seed "
        "among these. The images were chosen by this difference, so they are extremes and not representative."
    )
    return [Picture(f"{comparison.grid.key}-images.png", "Where two arms differ most", caption, sheet.png)]


def _seeds(results: ImageStatistics) -> str:
    """Over which seeds two arms are compared."""
    return "the seeds that both have" if results.pairs_seeds else "all seeds of each"


def _browser_blocks(results: ImageStatistics) -> list[Block]:
    """Where the page is that shows more images. Records have none: it contains the images."""
    if not results.browser:
        return []
    return [file_link("Browse such images", results.browser) + ", filtered by class, size and kind of error."]

"""The figures of what the saved detections show: where AP is lost, what scores tell, which classes are confused."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.detections.changes import MIN_SCORE
from analysis.detections.scores import BINS, MEAN_IOU, MIN_DETECTIONS, PRECISION, TRUE_POSITIVES
from analysis.detections.tide import IOUS, KINDS
from analysis.reading.image_statistics import ErrorRow, ImageStatistics, ScoreCurve
from analysis.rendering.model import BARS, MATRIX, Band, Curves, Figure, Panel
from analysis.sections.curves import BAND, height
from analysis.sections.grid_figures import shown_text
from analysis.stats.comparison import Comparison

PERFECT = "score = share of true positives"
DIAGONAL = Band([0, 1], [0, 1], [0, 1], [0, 1])
UNIT_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)
ROW = 0.3  # inches of a bar or a row of cells


def error_figure(results: ImageStatistics, comparison: Comparison, arms: Sequence[str]) -> Figure:
    """The gain of each kind of error as stacked bars, by IoU threshold."""
    panels = [_error_panel([row for row in results.errors if row.iou == iou], iou, arms) for iou in IOUS]
    caption = (
        f"{shown_text(comparison)}, mean over seeds: the gains of the table above, end to end. They do not add up to "
        "100 - AP, because errors of several kinds hide each other."
    )
    alt = f"Stacked bars of each arm at IoU 0.5, 0.75 and 0.9: the gain of fixing {', '.join(KINDS)} errors."
    size = 1.6 + ROW * len(arms)
    title, name = "Where AP is lost", f"{comparison.grid.key}-errors.svg"
    return Figure(name, title, caption, alt, [], panels, len(panels), size)


def _error_panel(rows: Sequence[ErrorRow], iou: float, arms: Sequence[str]) -> Panel:
    by_arm = {row.arm: row for row in rows}
    present = [arm for arm in arms if arm in by_arm]
    curves: dict[str, Band] = {}
    for kind in KINDS:
        gains = [100 * (getattr(by_arm[arm], kind) or 0.0) for arm in present]
        curves[kind] = Band([float(row) for row in range(len(present))], gains, gains, gains)
    return Panel(f"IoU {iou}", f"IoU {iou}", "points of AP", "", curves, BARS, starts_at_zero=False, labels=present)


def precision_figure(results: ImageStatistics, comparison: Comparison, arms: Sequence[str]) -> Figure:
    """Precision over recall, by IoU threshold."""
    panels = [
        Panel(
            f"IoU {iou}", f"IoU {iou}", "recall", "precision", _curves(results, PRECISION, iou, arms), ticks=UNIT_TICKS
        )
        for iou in IOUS
    ]
    caption = (
        f"{shown_text(comparison)}. Interpolated precision, mean over the classes, at 101 recalls; their mean is AP "
        f"at this threshold. {BAND}"
    )
    alt = "Precision of each arm over recall at IoU 0.5, 0.75 and 0.9."
    name = f"{comparison.grid.key}-precision-recall.svg"
    return Figure(name, "Precision and recall", caption, alt, arms, panels, len(panels), height(1))


def calibration_figure(results: ImageStatistics, comparison: Comparison, arms: Sequence[str]) -> Figure:
    """How well boxes fit, and how many are true positives, over the score."""
    panels = [
        *(_true_panel(iou, _curves(results, TRUE_POSITIVES, iou, arms)) for iou in IOUS),
        Panel(
            "mean IoU",
            "IoU with the best object",
            "score",
            "mean IoU",
            _curves(results, MEAN_IOU, None, arms),
            ticks=UNIT_TICKS,
        ),
    ]
    caption = (
        f"{shown_text(comparison)}. Over {BINS} bins of the score, without those with fewer than {MIN_DETECTIONS} "
        "detections in a seed. True positives below the dotted line: scores are too high. The best object is of the "
        f"detection's class. {BAND}"
    )
    alt = (
        "Each arm over the score: the mean IoU of detections, and the share of true positives at three IoU thresholds."
    )
    title, name = "Is a confident box a well-placed one?", f"{comparison.grid.key}-calibration.svg"
    return Figure(name, title, caption, alt, arms, panels, 2, height(2))


def _true_panel(iou: float, curves: Curves) -> Panel:
    title = f"true positives at IoU {iou}"
    return Panel(title, title, "score", "share", curves, ticks=UNIT_TICKS, reference={PERFECT: DIAGONAL})


def confusion_figure(results: ImageStatistics, comparison: Comparison, arms: Sequence[str]) -> Figure | None:
    """The confusion matrices of two arms; None if the file has none. arms: the baseline and another one."""
    confusion = results.confusion
    if confusion is None or not all(arm in confusion.shares for arm in arms):
        return None
    classes = confusion.classes
    rows, columns = [*classes, "no object"], [*classes, "not found"]
    panels = [
        Panel(
            *(arm, arm, "detected as", "", _cells(rows, confusion.shares[arm]), MATRIX),
            starts_at_zero=False,
            labels=columns,
        )
        for arm in arms
    ]
    caption = (
        f"{comparison.grid.dataset}, {comparison.seeds_text()}, mean over seeds, in percent of each row: what the "
        f"objects of a class are detected as, with a score of at least {MIN_SCORE} and IoU of at least 0.5. The last "
        "row: the classes of detections that have no object."
    )
    if len(classes) < confusion.of:
        caption += (
            f" Shown are the {len(classes)} of {confusion.of} classes with the highest rates of confusion; rows need "
            "not add up to 100."
        )
    alt = f"Confusion matrices of {' and '.join(arms)} in percent of each row."
    title, name = "Which classes are confused", f"{comparison.grid.key}-confusion.svg"
    return Figure(name, title, caption, alt, [], panels, len(panels), 2.0 + ROW * len(rows))


def _cells(names: Sequence[str], shares: Sequence[Sequence[float]]) -> Curves:
    curves = {}
    for name, row in zip(names, shares, strict=True):
        percents = [100 * share for share in row]
        curves[name] = Band([float(at) for at in range(len(row))], percents, percents, percents)
    return curves


def _curves(results: ImageStatistics, kind: str, iou: float | None, arms: Sequence[str]) -> Curves:
    own = {each.arm: _band(each) for each in results.curves if (each.kind, each.iou) == (kind, iou)}
    return {arm: own[arm] for arm in arms if arm in own}


def _band(curve: ScoreCurve) -> Band:
    return Band(curve.x, curve.middle, curve.low, curve.high)

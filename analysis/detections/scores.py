"""What the scores of detections tell: precision at each recall, how well boxes fit, and which classes are confused.

Calibration and confusion are hotcoco's, which also computes the metrics of the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
import pandas as pd

from analysis.detections.changes import MIN_SCORE
from analysis.detections.matching import IOU_THRESHOLDS, Matches
from analysis.detections.tide import IOUS, MAX_DETECTIONS, group_by_image
from analysis.detections.weighted_ap import RECALL_THRESHOLDS, Accumulation
from dynamic_rcnn.metrics.columns import Detections, Floats, Objects

POSITIONS = dict(zip(IOUS, (0, 5, 8), strict=True))  # IoU threshold -> its position in IOU_THRESHOLDS
BINS = 10  # of the scores, equally wide
FEWEST = 10  # detections in a bin: below, it is left out
PRECISION, FIT, CORRECT = "precision", "fit", "correct"  # kinds of curves
MAX_CLASSES = 12  # rows and columns of a confusion matrix
_DIGITS = 5

Curve = tuple[Floats, Floats]  # x, y


@dataclass(frozen=True)
class Scores:
    """What the scores of one run tell.

    Attributes:
        curves: kind, IoU threshold (None for FIT) -> (x, y), both (n,). PRECISION: over recall, mean over the classes
            with objects, as in COCO's AP. FIT: the mean IoU of a detection with the best object of its class, over
            the score. CORRECT: the share of detections that are true positives, over the score.
        calibration: IoU threshold -> expected calibration error, the mean gap between score and share of true
            positives, over bins of the score weighted by their detections.
        confusion: (classes + 1, classes + 1), the shares of each class's objects that are detected as each class; the
            last column: not found. Last row: of the detections without an object, the share of each class. Detections
            with a score of at least MIN_SCORE are matched at IoU 0.5, whatever their class.
    """

    curves: Mapping[tuple[str, float | None], Curve]
    calibration: Mapping[float, float]
    confusion: Floats


def read_scores(objects: Objects, detections: Detections, matches: Matches) -> Scores:
    """What the scores of one run tell. matches: of its detections, over all object sizes."""
    evaluation = _evaluate(objects, detections)
    bins = {iou: evaluation.calibration(BINS, float(IOU_THRESHOLDS[at])) for iou, at in POSITIONS.items()}
    precision, defined = Accumulation(matches).by_segment(np.ones(len(objects.image_ids), np.int64))
    curves: dict[tuple[str, float | None], Curve] = {(FIT, None): _fit(objects, detections)}
    for iou, at in POSITIONS.items():
        if defined.any():
            curves[PRECISION, iou] = RECALL_THRESHOLDS, precision[at, defined].mean(axis=0)
        curves[CORRECT, iou] = _correct(bins[iou]["bins"])
    confusion = evaluation.confusion_matrix(float(IOU_THRESHOLDS[0]), MAX_DETECTIONS, MIN_SCORE)
    return Scores(curves, {iou: each["ece"] for iou, each in bins.items()}, confusion["normalized"])


def _evaluate(objects: Objects, detections: Detections) -> hotcoco.COCOeval:
    """hotcoco's evaluation of boxes. Positions are ids, from 1."""
    truth = hotcoco.COCO.from_arrays(
        [{"id": number, "width": 1, "height": 1} for number in range(1, len(objects.image_ids) + 1)],
        [{"id": number, "name": name} for number, name in enumerate(objects.names, start=1)],
        objects.image + 1,
        objects.category + 1,
        objects.box,
        area=objects.area,
        iscrowd=objects.crowd,
    )
    rows = [detections.image + 1, detections.box, detections.score, detections.category + 1]
    evaluation = hotcoco.COCOeval(truth, truth.load_res(np.column_stack(rows)), "bbox")
    evaluation.evaluate()
    return evaluation


def _fit(objects: Objects, detections: Detections) -> Curve:
    """Over bins of the score, the mean IoU with the best object of the class; 0 without one."""
    images = group_by_image(objects, detections)
    score = np.concatenate([image.score for image in images])
    best = np.concatenate([(image.ious * image.same).max(axis=1, initial=0) for image in images])
    at = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(at, minlength=BINS)
    used = count >= FEWEST
    return _bin_centres()[used], np.bincount(at, best, BINS)[used] / count[used]


def _correct(bins: Sequence[Mapping[str, float]]) -> Curve:
    used = np.array([each["count"] >= FEWEST for each in bins])
    return _bin_centres()[used], np.array([each["avg_accuracy"] for each in bins])[used]


def _bin_centres() -> Floats:
    return (np.arange(BINS) + 0.5) / BINS


def curve_rows(arms: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """One row per arm, kind and IoU threshold: the mean, the lowest and the highest run at each x.

    arms: arm -> one per seed.
    """
    rows = []
    for arm, runs in arms.items():
        for kind, iou in dict.fromkeys(key for run in runs for key in run.curves):
            curves = [pd.Series(y, x.round(_DIGITS)) for x, y in (run.curves[kind, iou] for run in runs)]
            over_seeds = pd.concat(curves, axis=1).sort_index().agg(["mean", "min", "max"], axis=1).round(_DIGITS)
            bands = zip(("middle", "low", "high"), over_seeds.to_numpy().T.tolist(), strict=True)
            rows.append({"arm": arm, "kind": kind, "iou": iou, "x": over_seeds.index.tolist(), **dict(bands)})
    return rows


def calibration_rows(arms: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """One row per arm and IoU threshold: the calibration error, mean over seeds."""
    return [
        {"arm": arm, "iou": iou, "error": round(float(np.mean([run.calibration[iou] for run in runs])), _DIGITS)}
        for iou in IOUS
        for arm, runs in arms.items()
    ]


def confusion_of(names: Sequence[str], arms: Mapping[str, Sequence[Scores]]) -> dict[str, Any]:
    """The confusion of each arm, mean over seeds, for the classes that are confused most with others.

    Args:
        names: of the classes.
        arms: arm -> one per seed.

    Returns:
        classes: the names, at most MAX_CLASSES; shares: arm -> rows of shares by true class, then those of detections
        without an object; columns are the detected classes, then not found.
    """
    means = {arm: np.mean([run.confusion for run in runs], axis=0) for arm, runs in arms.items()}
    chosen = _most_confused(means.values())
    kept = [*chosen, len(names)]
    shares = {arm: mean[np.ix_(kept, kept)].round(_DIGITS).tolist() for arm, mean in means.items()}
    return {"classes": [names[at] for at in chosen], "shares": shares}


def _most_confused(means: Iterable[Floats]) -> list[int]:
    """Positions of the classes in their order."""
    between = np.sum([mean[:-1, :-1] for mean in means], axis=0)
    np.fill_diagonal(between, 0)
    order = np.argsort(-(between.sum(axis=0) + between.sum(axis=1)), kind="stable")
    return sorted(order[:MAX_CLASSES].tolist())

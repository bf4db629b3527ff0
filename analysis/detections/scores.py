"""Precision at each recall, calibration of the scores, and confusion of classes.

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
from analysis.detections.tide import IOUS, MAX_DETECTIONS, ImageBoxes, group_by_image
from analysis.detections.weighted_ap import RECALL_THRESHOLDS, Accumulation
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import names
from dynamic_rcnn.metrics.columns import Booleans, Detections, Floats, Objects

POSITIONS = {iou: names.IOU_THRESHOLDS.index(iou) for iou in IOUS}
BINS = 10  # of the scores, equally wide
MIN_DETECTIONS = 10  # in a bin: one with fewer is left out
PRECISION, MEAN_IOU, TRUE_POSITIVES = "precision", "mean_iou", "true_positives"  # kinds of curves
MAX_CLASSES = 12  # rows and columns of a confusion matrix
_DIGITS = 5

Curve = tuple[Floats, Floats]  # x, y


@dataclass(frozen=True)
class Scores:
    """Precision-recall curves, calibration and confusion of one run. Detections of crowds do not count.

    Attributes:
        curves: kind, IoU threshold (None for MEAN_IOU) -> (x, y), both (n,). PRECISION: over recall, mean over the
            classes with objects, as in COCO's AP. MEAN_IOU: the mean IoU of a detection with the best object of its
            class, over the score. TRUE_POSITIVES: the share of detections that are true positives, over the score.
        calibration: IoU threshold -> expected calibration error, the mean gap between score and share of true
            positives, over bins of the score weighted by their detections; NaN without detections.
        confusion: (classes + 1, classes + 1), the shares of each class's objects that are detected as each class; the
            last column: not found. Last row: of the detections without an object, the share of each class. Detections
            with a score of at least MIN_SCORE are matched at IoU 0.5, whatever their class.
    """

    curves: Mapping[tuple[str, float | None], Curve]
    calibration: Mapping[float, float]
    confusion: Floats


def read_scores(objects: Objects, detections: Detections, matches: Matches) -> Scores:
    """Precision-recall curves, calibration and confusion of one run.

    Args:
        objects: the ground truth.
        detections: on its images and categories.
        matches: of these detections, over all object sizes.

    Raises:
        UserError: a score is not between 0 and 1.
    """
    outside = detections.score[(detections.score < 0) | (detections.score > 1)]
    if len(outside):
        raise UserError(
            f"score is {outside[0]}; calibration needs scores from 0 to 1; without this file the run is left out"
        )
    images = group_by_image(objects, detections)
    counted = [_counts(image) for image in images]
    evaluation = _evaluation(objects, detections)
    evaluation.evaluate()
    bins = {iou: evaluation.calibration(BINS, float(IOU_THRESHOLDS[at])) for iou, at in POSITIONS.items()}
    precision, defined = Accumulation(matches).by_segment(np.ones(len(images), np.int64))
    curves: dict[tuple[str, float | None], Curve] = {(MEAN_IOU, None): _mean_iou(images, counted)}
    for iou, at in POSITIONS.items():
        if defined.any():
            curves[PRECISION, iou] = RECALL_THRESHOLDS, precision[at, defined].mean(axis=0)
        curves[TRUE_POSITIVES, iou] = _true_positives(bins[iou]["bins"])
    errors = {iou: each["ece"] if each["num_detections"] else np.nan for iou, each in bins.items()}
    kept = np.concatenate([image.detection[used] for image, used in zip(images, counted, strict=True)])
    plain = Detections(*(getattr(detections, name)[kept] for name in Detections.__dataclass_fields__))
    confusion = _evaluation(objects, plain).confusion_matrix(float(IOU_THRESHOLDS[0]), MAX_DETECTIONS, MIN_SCORE)
    return Scores(curves, errors, confusion["normalized"])


def _counts(image: ImageBoxes) -> Booleans:
    """Which detections count: those that reach an object of any class, or no crowd of their class."""
    return (image.ious.max(axis=1, initial=0) >= IOU_THRESHOLDS[0]) | (image.crowd < IOU_THRESHOLDS[0])


def _evaluation(objects: Objects, detections: Detections) -> hotcoco.COCOeval:
    """hotcoco's evaluation of boxes, to be started. Positions are ids, from 1."""
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
    return hotcoco.COCOeval(truth, truth.load_res(np.column_stack(rows)), "bbox")


def _mean_iou(images: Sequence[ImageBoxes], counted: Sequence[Booleans]) -> Curve:
    """Over bins of the score, the mean IoU with the best object of the class; 0 without one."""
    score = np.concatenate([image.score[used] for image, used in zip(images, counted, strict=True)])
    best = np.concatenate(
        [(image.ious * image.same).max(axis=1, initial=0)[used] for image, used in zip(images, counted, strict=True)]
    )
    at = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(at, minlength=BINS)
    used = count >= MIN_DETECTIONS
    return _bin_centres()[used], np.bincount(at, best, BINS)[used] / count[used]


def _true_positives(bins: Sequence[Mapping[str, float]]) -> Curve:
    used = np.array([each["count"] >= MIN_DETECTIONS for each in bins])
    return _bin_centres()[used], np.array([each["avg_accuracy"] for each in bins])[used]


def _bin_centres() -> Floats:
    return (np.arange(BINS) + 0.5) / BINS


def curve_rows(arms: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """One row per arm, kind and IoU threshold: the mean, lowest and highest run at each x that all runs have.

    arms: arm -> one per seed.
    """
    rows = []
    for arm, runs in arms.items():
        for kind, iou in dict.fromkeys(key for run in runs for key in run.curves):
            curves = [pd.Series(y, x.round(_DIGITS)) for x, y in (run.curves[kind, iou] for run in runs)]
            over_seeds = pd.concat(curves, axis=1, join="inner").sort_index()
            bands = {"middle": over_seeds.mean(axis=1), "low": over_seeds.min(axis=1), "high": over_seeds.max(axis=1)}
            values = {name: band.round(_DIGITS).tolist() for name, band in bands.items()}
            rows.append({"arm": arm, "kind": kind, "iou": iou, "x": over_seeds.index.tolist(), **values})
    return rows


def calibration_rows(arms: Mapping[str, Sequence[Scores]]) -> list[dict[str, Any]]:
    """One row per arm and IoU threshold: the calibration error, mean over seeds; None if a run has none."""
    rows = []
    for iou in IOUS:
        for arm, runs in arms.items():
            error = float(np.mean([run.calibration[iou] for run in runs]))
            rows.append({"arm": arm, "iou": iou, "error": None if error != error else round(error, _DIGITS)})
    return rows


def confusion_of(classes: Sequence[str], arms: Mapping[str, Sequence[Scores]]) -> dict[str, Any]:
    """The confusion of each arm, mean over seeds, for the classes that are confused most with others.

    Args:
        classes: the names of all classes.
        arms: arm -> one per seed.

    Returns:
        of: the number of all classes; classes: the names, at most MAX_CLASSES; shares: arm -> rows of shares by true
        class, then those of detections without an object; columns are the detected classes, then not found.
    """
    means = {arm: np.mean([run.confusion for run in runs], axis=0) for arm, runs in arms.items()}
    chosen = _most_confused(means.values())
    kept = [*chosen, len(classes)]
    shares = {arm: mean[np.ix_(kept, kept)].round(_DIGITS).tolist() for arm, mean in means.items()}
    return {"of": len(classes), "classes": [classes[at] for at in chosen], "shares": shares}


def _most_confused(means: Iterable[Floats]) -> list[int]:
    """Positions of the classes in their order."""
    between = np.sum([mean[:-1, :-1] for mean in means], axis=0)
    np.fill_diagonal(between, 0)
    order = np.argsort(-(between.sum(axis=0) + between.sum(axis=1)), kind="stable")
    return sorted(order[:MAX_CLASSES].tolist())

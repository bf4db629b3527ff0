"""Where AP is lost: each false positive and missed object as one of six kinds of errors, and the gain if it were fixed.

Kinds and gains are those of TIDE (Bolya et al., ECCV 2020; package tidecv 1.0.1). With T the IoU threshold of a true
positive and B that of the background, a false positive is of the first kind that applies:

    localisation    its best object of its category has IoU between B and T
    classification  an object of another category has IoU of at least T
    duplicate       it reaches an object of its category that a detection with a higher score has taken
    background      no object of any category has IoU above B
    both            everything else: neither category nor place is right
    missed          (objects) not found, and not the target of a localisation or classification error

A gain is AP with the errors of one kind fixed minus AP, at least 0. A localisation or classification error is fixed by
making it true if its object is not found and no such error with a higher score has that object, else by removing it, as
the other kinds are; missed objects are removed from the ground truth. Gains do not add up.

As in tidecv, a false positive in a crowd of its category does not count in AP, but counts as an error. Unlike tidecv,
the mean is over categories with objects, as in COCO's AP; tidecv counts a category with detections but no object as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pycocotools import mask

from analysis.detections.weighted_ap import RECALL_THRESHOLDS
from dynamic_rcnn.metrics.columns import Booleans, Detections, Floats, Integers, Objects, rows_by_image

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR, IGNORED = -1, -2
IOUS = (0.5, 0.75, 0.9)
BACKGROUND_IOU = 0.1
MAX_DETECTIONS = 100  # per image


@dataclass(frozen=True)
class Errors:
    """The errors of one run at one IoU threshold: AP, and for each kind the gain in AP and the count. Fractions."""

    iou: float
    ap: float
    gain: dict[str, float]
    count: dict[str, int]


def find_errors(objects: Objects, detections: Detections, ious: Sequence[float] = IOUS) -> list[Errors]:
    """The errors of one run at each IoU threshold; AP is NaN without objects."""
    images = group_by_image(objects, detections)
    return [_errors_at(objects, images, iou) for iou in ious]


@dataclass(frozen=True)
class BoxErrors:
    """The kind of error of each box of one run at one IoU threshold.

    Attributes:
        detection: (d,), positions in `Detections`, by image and descending score, at most 100 per image.
        kind: (d,), a position in `KINDS`; NO_ERROR for a true positive, IGNORED for a false one in a crowd.
        missed: (N,), whether each object is missed.
    """

    detection: Integers
    kind: Integers
    missed: Booleans


def find_box_errors(objects: Objects, detections: Detections, ious: Sequence[float] = IOUS) -> list[BoxErrors]:
    """The kind of error of each box at each IoU threshold."""
    images = group_by_image(objects, detections)
    classified = [_classify_all(objects, images, iou) for iou in ious]
    return [BoxErrors(rows.detection, np.where(rows.ignored, IGNORED, rows.kind), lost) for rows, lost in classified]


def error_frame(arms: Mapping[str, Sequence[Sequence[Errors]]]) -> pd.DataFrame:
    """One row per arm and IoU threshold: AP and the gain of each kind, mean over seeds.

    Args:
        arms: arm -> the result of `find_errors` for each seed.
    """
    rows = [{"arm": arm, "iou": e.iou, "AP": e.ap, **e.gain} for arm, runs in arms.items() for run in runs for e in run]
    columns = ["arm", "iou", "AP", *KINDS]
    return pd.DataFrame(rows, columns=columns).groupby(["arm", "iou"], sort=False, as_index=False).mean()


@dataclass(frozen=True)
class ImageBoxes:
    """The d detections of an image by descending score, at most 100, and its g objects without crowds."""

    detection: Integers  # (d,), position in Detections
    category: Integers  # (d,)
    score: Floats  # (d,)
    object: Integers  # (g,), position in Objects
    ious: Floats  # (d, g)
    same: Booleans  # (d, g): of one category
    crowd: Floats  # (d,): the largest share of the detection in a crowd of its category


@dataclass(frozen=True)
class _Rows:
    """Detections of one or all images. `fixed` is the category that fixes an error, else -1."""

    detection: Integers
    category: Integers
    score: Floats
    true: Booleans
    ignored: Booleans
    kind: Integers
    fixed: Integers


def group_by_image(objects: Objects, detections: Detections) -> list[ImageBoxes]:
    """The boxes of each image."""
    images, grouped = len(objects.image_ids), []
    ranked = rows_by_image(detections.image, images, -detections.score)
    for rows, here in zip(ranked, rows_by_image(objects.image, images), strict=True):
        rows = rows[:MAX_DETECTIONS]
        crowds, plain = here[objects.crowd[here]], here[~objects.crowd[here]]
        category = detections.category[rows]
        shares = _ious(detections.box[rows], objects.box[crowds], crowd=True)
        crowd = (shares * (category[:, None] == objects.category[crowds])).max(axis=1, initial=0)
        ious = _ious(detections.box[rows], objects.box[plain], crowd=False)
        same = category[:, None] == objects.category[plain]
        grouped.append(ImageBoxes(rows, category, detections.score[rows], plain, ious, same, crowd))
    return grouped


def _ious(box: Floats, others: Floats, crowd: bool) -> Floats:
    if not len(box) or not len(others):
        return np.zeros((len(box), len(others)))
    return np.asarray(mask.iou(box, others, np.full(len(others), crowd, np.uint8)))


def _classify_all(objects: Objects, images: Sequence[ImageBoxes], iou: float) -> tuple[_Rows, Booleans]:
    """The detections of all images, and which objects are missed."""
    missed = np.zeros(len(objects.image), np.bool_)
    parts = [_classify(image, objects.category, missed, iou) for image in images]
    rows = _Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Rows.__dataclass_fields__))
    return rows, missed


def _errors_at(objects: Objects, images: Sequence[ImageBoxes], iou: float) -> Errors:
    rows, missed = _classify_all(objects, images, iou)
    positives = np.bincount(objects.category[~objects.crowd], minlength=len(objects.category_ids))
    remaining = positives - np.bincount(objects.category[missed], minlength=len(positives))

    counted = ~rows.ignored
    ap = _mean_ap(rows.category[counted], rows.score[counted], rows.true[counted], positives, positives)
    gain = {}
    for kind, name in enumerate(KINDS):
        fixed, errors = rows.fixed >= 0, rows.kind == kind
        keep = np.where(errors, fixed, counted)
        true = np.where(errors, fixed, rows.true)
        category = np.where(errors & fixed, rows.fixed, rows.category)
        wanted = remaining if kind == MISSED else positives
        gain[name] = max(_mean_ap(category[keep], rows.score[keep], true[keep], wanted, positives) - ap, 0.0)
    count = {name: int(np.count_nonzero(rows.kind == kind)) for kind, name in enumerate(KINDS)}
    return Errors(iou, ap, gain, {**count, KINDS[MISSED]: int(np.count_nonzero(missed))})


def _classify(image: ImageBoxes, category: Integers, missed: Booleans, iou: float) -> _Rows:
    """Classify the detections of an image and mark its missed objects. category: (N,), of all objects."""
    same = image.ious * image.same
    taken = _take(same, iou)
    used = taken >= 0
    true = np.zeros(len(image.score), np.bool_)
    true[taken[used]] = True
    kind = np.where(true, NO_ERROR, _kinds(image, same, used, iou))

    fixed = np.full(len(image.score), -1)
    targeted = np.zeros(len(used), np.bool_)
    other = image.ious * ~image.same
    for row in np.flatnonzero((kind == LOCALISATION) | (kind == CLASSIFICATION)):  # by descending score
        target = int(np.argmax((same if kind[row] == LOCALISATION else other)[row]))
        if not used[target] and not targeted[target]:
            targeted[target] = True
            fixed[row] = category[image.object[target]]
    missed[image.object[~used & ~targeted]] = True
    return _Rows(image.detection, image.category, image.score, true, ~true & (image.crowd > iou), kind, fixed)


def _take(same: Floats, iou: float) -> Integers:
    """(g,): the detection that takes each object, or -1. By score, each takes the free object of the highest IoU."""
    taken = np.full(same.shape[1], -1)
    free = same.copy()
    for row in np.flatnonzero((same >= iou).any(axis=1)):
        column = int(np.argmax(free[row]))
        if free[row, column] >= iou:
            taken[column] = row
            free[:, column] = 0
    return taken


def _kinds(image: ImageBoxes, same: Floats, used: Booleans, iou: float) -> Integers:
    """(d,): the kind of error of each detection, if the detection is an error."""
    best = same.max(axis=1, initial=0)
    other = (image.ious * ~image.same).max(axis=1, initial=0)
    doubled = (same * used).max(axis=1, initial=0)
    anything = image.ious.max(axis=1, initial=0)
    conditions = [(best >= BACKGROUND_IOU) & (best <= iou), other >= iou, doubled >= iou, anything <= BACKGROUND_IOU]
    return np.select(conditions, [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND], BOTH)


def _mean_ap(category: Integers, score: Floats, true: Booleans, wanted: Integers, positives: Integers) -> float:
    """AP, mean over the categories with `positives`.

    As in tidecv, a category without `wanted` objects is 0 if it has detections, else it is left out; 1 if all are.
    """
    order = np.lexsort((-score, category))
    flags = true[order]
    ends = np.searchsorted(category[order], np.arange(len(positives) + 1))
    values = [
        _average_precision(flags[ends[number] : ends[number + 1]], int(wanted[number]))
        for number in np.flatnonzero(positives)
        if wanted[number] or ends[number] < ends[number + 1]
    ]
    if not positives.any():
        return math.nan
    return float(np.mean(values)) if values else 1.0


def _average_precision(true: Booleans, positives: int) -> float:
    """COCO's AP at one IoU threshold, for detections by descending score."""
    if not len(true) or not positives:
        return 0.0
    counts = np.cumsum(true)
    precision = np.maximum.accumulate((counts / np.arange(1, len(true) + 1))[::-1])[::-1]
    at = np.searchsorted(counts / positives, RECALL_THRESHOLDS)
    return float(precision[at[at < len(true)]].sum() / len(RECALL_THRESHOLDS))

"""COCO metrics of saved detections, for boxes and masks.

A run computes its metrics from the file of its detections. Computing them again, without the model, gives the same
numbers to the last bit.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from dynamic_rcnn.data import coco_format
from dynamic_rcnn.data.annotations import read_json
from dynamic_rcnn.data.dataset import evaluated_split
from dynamic_rcnn.metrics import columns, names
from dynamic_rcnn.metrics import masks as coco_masks
from dynamic_rcnn.metrics.detections import Detection, read_detections
from dynamic_rcnn.metrics.precision import BOXES, MASKS, Case, PrecisionRecall, accumulate
from dynamic_rcnn.run.files import DETECTIONS
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import HOTCOCO, RunSpec

ALL_SIZES = 0  # position on COCOeval's area axis; those of SIZES follow


def evaluate(
    ground_truth: Path | COCO, detections: list[Detection], masks: bool = False, evaluator: str = HOTCOCO
) -> dict[str, Any]:
    """COCO metrics of detections, as fractions in full precision; None without ground truth.

    Args:
        ground_truth: an annotation file in COCO format, or its loaded content.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height; pixels), score, and with masks
            segmentation (size: height and width of the image; counts: COCO's compressed run lengths).
        masks: whether to evaluate the masks too.
        evaluator: one of run.spec.EVALUATORS; they give the same numbers, to the last bit.

    Returns:
        images: number of images evaluated;
        metrics: AP, AP50 to AP90, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; with masks segm_AP, segm_AP50 and
            segm_AP75;
        by_iou: AP at IoU 0.50, 0.55, ... 0.95;
        per_class: by class name AP, AP50, AP75 and AP90.

    Raises:
        UserError: the annotation file cannot be read; a detection names an unknown image or category, or is not finite;
            masks are to be evaluated and one is missing.
    """
    coco = ground_truth if isinstance(ground_truth, COCO) else load_ground_truth(ground_truth, masks)
    objects = columns.read_objects(coco)
    case = Case(coco, detections, objects, columns.read_detections(objects, detections))
    if masks:
        coco_masks.check(coco, detections)
    result = accumulate(case, BOXES, evaluator)
    boxes = result.precision[:, :, :, ALL_SIZES, -1]  # (IoU, recall, class)
    metrics = _box_metrics(result)
    if masks:
        by_mask = accumulate(case, MASKS, evaluator).precision[:, :, :, ALL_SIZES, -1]
        metrics |= dict(zip(names.MASK_METRICS, _ap(by_mask, names.MASK_THRESHOLDS).values(), strict=True))
    return {
        "images": len(objects.image_ids),
        "metrics": metrics,
        "by_iou": [_mean(each) for each in boxes],
        "per_class": {name: _ap(boxes[:, :, at], names.CLASS_THRESHOLDS) for at, name in enumerate(objects.names)},
    }


def _box_metrics(result: PrecisionRecall) -> dict[str, float | None]:
    """The metrics of names.BOX_METRICS."""
    precision, recall = result
    sizes = range(1, 1 + len(names.SIZES))
    values = [
        *_ap(precision[:, :, :, ALL_SIZES, -1], names.AP_THRESHOLDS).values(),
        *(_mean(precision[:, :, :, size, -1]) for size in sizes),
        *(_mean(recall[:, :, ALL_SIZES, most]) for most in range(len(names.MAX_DETECTIONS))),
        *(_mean(recall[:, :, size, -1]) for size in sizes),
    ]
    return dict(zip(names.BOX_METRICS, values, strict=True))


def compute_metrics(
    run_dir: Path, spec: RunSpec, root: Path, iteration: int, evaluator: str | None = None
) -> EvaluationResults:
    """Compute the content of metrics.json from a run's saved detections.

    Args:
        run_dir: directory of the run.
        spec: the run's spec.
        root: folder to which the paths in `spec.dataset` are relative.
        iteration: the number of iterations that the evaluated weights were trained for.
        evaluator: one of run.spec.EVALUATORS; None for the run's.
    """
    annotations, detections = root / spec.dataset["val_ann"], read_detections(run_dir / DETECTIONS)
    content = evaluate(annotations, detections, spec.has_masks, evaluator or spec.evaluator)
    return EvaluationResults(iteration=iteration, split=evaluated_split(spec.dataset), **content)


def load_ground_truth(path: Path, masks: bool = False) -> COCO:
    """Load an annotation file in UTF-8 for pycocotools, silently.

    Annotations are renumbered from 1: COCOeval marks unmatched detections by id 0, so that a match with an annotation
    of that id would not count.

    Args:
        path: the annotation file.
        masks: whether every annotation must have a valid segmentation.

    Raises:
        UserError: the file breaks a rule for annotations. It may have changed since the check before training.
    """
    coco_format.check_annotation_file(path, masks)
    coco = COCO()  # given the path, it would decode the file by the locale
    coco.dataset = read_json(path)
    for number, annotation in enumerate(coco.dataset["annotations"], start=1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean over the values with ground truth; COCOeval marks the others with -1."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


def _ap(precision: NDArray[np.float64], thresholds: Iterable[str]) -> dict[str, float | None]:
    """AP, and AP at the named thresholds. The first axis of `precision` is that of names.IOU_THRESHOLDS."""
    at = {name: names.IOU_THRESHOLDS.index(names.AP_THRESHOLDS[name]) for name in thresholds}
    return {"AP": _mean(precision), **{name: _mean(precision[position]) for name, position in at.items()}}

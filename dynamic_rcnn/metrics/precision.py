"""Precision and recall of detections over all classes, areas and IoU thresholds, by hotcoco or by pycocotools.

pycocotools is the reference, and loops in Python over classes and images. hotcoco gives the same arrays, to the last
bit, in about 2% of the time; tests compare them over odd data.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, NamedTuple

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynamic_rcnn.metrics import masks, names
from dynamic_rcnn.metrics.columns import Detections, Floats, Objects, annotation_rows
from dynamic_rcnn.metrics.detections import Detection
from dynamic_rcnn.run.spec import HOTCOCO

BOXES, MASKS = "bbox", "segm"  # COCOeval's kinds of IoU


class PrecisionRecall(NamedTuple):
    """The results of COCOeval.accumulate; -1 where a class has no objects."""

    precision: Floats  # (IoU, recall, class, area, max detections)
    recall: Floats  # (IoU, class, area, max detections)


class Case(NamedTuple):
    """One set of detections on its ground truth, as rows and as columns, in the same order."""

    coco: COCO
    rows: list[Detection]
    objects: Objects
    detections: Detections


def accumulate(case: Case, kind: str, evaluator: str) -> PrecisionRecall:
    """Match and accumulate detections.

    Args:
        case: ground truth and detections.
        kind: BOXES or MASKS.
        evaluator: one of run.spec.EVALUATORS.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _by_hotcoco(case, kind) if evaluator == HOTCOCO else _by_pycocotools(case, kind)
    result: Any = evaluation.eval
    return PrecisionRecall(result["precision"], result["recall"])


def _by_hotcoco(case: Case, kind: str) -> hotcoco.COCOeval:
    objects, found = case.objects, case.detections
    ids = objects.image_ids.tolist()
    images = [{**_size(case.coco.imgs[number]), "id": position} for position, number in enumerate(ids, start=1)]
    categories = [{"id": position, "name": name} for position, name in enumerate(objects.names, start=1)]
    truth = hotcoco.COCO.from_arrays(
        images,
        categories,
        objects.image + 1,
        objects.category + 1,
        objects.box,
        area=objects.area,
        iscrowd=objects.crowd,
        segmentation=_segmentations(annotation_rows(case.coco, objects.image_ids), kind),
    )
    # Positions instead of ids: as floats, ids above 2**53 would lose digits
    table = np.column_stack([found.image + 1, found.box, found.score, found.category + 1])
    results = truth.load_res(table, segmentation=_segmentations(case.rows, kind))
    if kind == MASKS and case.rows:  # hotcoco takes a mask's area from its box
        areas = np.array([masks.area(row["segmentation"]) for row in case.rows], np.float64)
        results.update_anns(ids=np.arange(1, len(areas) + 1), area=areas)
    evaluation = hotcoco.COCOeval(truth, results, kind)
    evaluation.params.max_dets = list(names.MAX_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _by_pycocotools(case: Case, kind: str) -> COCOeval:
    evaluation = COCOeval(case.coco, _as_results(case, kind), kind)
    evaluation.params.maxDets = list(names.MAX_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _as_results(case: Case, kind: str) -> COCO:
    """Like `coco.loadRes`, which fails on an empty list and takes a mask's area from its box."""
    results = COCO()

    def area(item: Detection) -> float:
        return item["bbox"][2] * item["bbox"][3] if kind == BOXES else masks.area(item["segmentation"])

    results.dataset = {
        "images": case.coco.dataset["images"],
        "categories": case.coco.dataset["categories"],
        "annotations": [
            {**item, "id": number, "area": area(item), "iscrowd": 0} for number, item in enumerate(case.rows, start=1)
        ],
    }
    results.createIndex()
    return results


def _segmentations(rows: list[dict[str, Any]], kind: str) -> list[Any] | None:
    return [row["segmentation"] for row in rows] if kind == MASKS else None


def _size(image: dict[str, Any]) -> dict[str, int]:
    return {side: image[side] for side in ("height", "width") if side in image}

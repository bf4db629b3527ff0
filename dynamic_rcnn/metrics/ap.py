"""COCO evaluation of saved detections, boxes and masks: what `metrics.json` holds, with pycocotools and numpy only.

A run writes its detections with `write_detections`, then computes its metrics with `evaluate_file` from that
file: evaluating it again, without the model, gives the same numbers to the last bit.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import masks as coco_masks
from dynamic_rcnn.run.directory import write_bytes_atomic

Detection = dict[str, Any]

# AP at one IoU threshold, by name. COCOeval's own summary finds no 0.9, because it compares floats with ==.
THRESHOLDS = {"AP50": 0.5, "AP60": 0.6, "AP70": 0.7, "AP75": 0.75, "AP80": 0.8, "AP90": 0.9}
AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}  # positions on COCOeval's area axis
MAX_DETECTIONS = (1, 10, 100)  # an image
SEGM = "segm_"  # begins the names of the metrics of masks
BOXES, MASKS = "bbox", "segm"  # COCOeval's kinds of IoU


def evaluate(ground_truth: Path | COCO, detections: list[Detection], masks: bool = False) -> dict[str, Any]:
    """COCO metrics of detections, as fractions in full precision, None where there is no ground truth.

    Args:
        ground_truth: an annotation file in COCO format, or one that is loaded already.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height; pixels), score, and with masks
            segmentation (size: height and width of the image; counts: COCO's compressed run lengths).
        masks: whether to evaluate the masks too.

    Returns:
        images: number of images evaluated;
        metrics: AP, AP50 to AP90, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; with masks segm_AP, segm_AP50 and
            segm_AP75;
        by_iou: AP at IoU 0.50, 0.55, ... 0.95;
        per_class: by class name AP, AP50, AP75 and AP90.

    Raises:
        UserError: the annotation file cannot be read, a detection names an unknown image or category, or masks are to
            be evaluated and one is missing.
    """
    coco = ground_truth if isinstance(ground_truth, COCO) else load_ground_truth(ground_truth)
    _check_known(coco, detections)
    if masks:
        coco_masks.check(coco, detections)
    result = _accumulate(coco, detections, BOXES)
    ious: NDArray[np.float64] = result.params.iouThrs
    precision: NDArray[np.float64] = result.eval["precision"]  # (IoU, recall, class, area, max detections)
    recall: NDArray[np.float64] = result.eval["recall"]  # (IoU, class, area, max detections)

    boxes = precision[:, :, :, AREAS["all"], -1]
    metrics = {"AP": _mean(boxes)}
    metrics |= {name: _mean(boxes[threshold_index(ious, iou)]) for name, iou in THRESHOLDS.items()}
    metrics |= {f"AP{area[0]}": _mean(precision[:, :, :, AREAS[area], -1]) for area in list(AREAS)[1:]}
    metrics |= {f"AR{most}": _mean(recall[:, :, AREAS["all"], at]) for at, most in enumerate(MAX_DETECTIONS)}
    metrics |= {f"AR{area[0]}": _mean(recall[:, :, AREAS[area], -1]) for area in list(AREAS)[1:]}
    if masks:
        metrics |= _mask_metrics(_accumulate(coco, detections, MASKS))
    names = [coco.cats[number]["name"] for number in result.params.catIds]
    return {
        "images": len(result.params.imgIds),
        "metrics": metrics,
        "by_iou": [_mean(boxes[at]) for at in range(len(ious))],
        "per_class": {name: _class_metrics(boxes[:, :, at], ious) for at, name in enumerate(names)},
    }


def evaluate_file(ground_truth: Path | COCO, detections: Path, masks: bool = False) -> dict[str, Any]:
    """`evaluate` of a file that `write_detections` wrote."""
    return evaluate(ground_truth, read_detections(detections), masks)


def load_ground_truth(path: Path) -> COCO:
    """An annotation file as pycocotools has it, without its printing.

    Annotations are numbered anew from 1: COCOeval marks a detection without a match by the id 0, so that a match
    with an annotation of that id would not count.
    """
    fault = f"{path}: cannot be read as annotations in COCO format"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(path))
            for number, annotation in enumerate(coco.dataset["annotations"], start=1):
                annotation["id"] = number
            coco.createIndex()
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(fault) from error
    if not {"images", "annotations", "categories"} <= coco.dataset.keys():
        raise UserError(fault)
    return coco


def threshold_index(ious: NDArray[np.float64], iou: float) -> int:
    """The position of an IoU threshold: np.linspace(.5, .95, 10) has 0.8999999999999999 for 0.9."""
    (found,) = np.flatnonzero(np.isclose(ious, iou, rtol=0, atol=1e-6))
    return int(found)


def write_detections(path: Path, detections: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO results as gzipped JSON, complete or not at all; same detections, same bytes.

    Boxes and scores are kept to float32, the precision a model gives, with as few digits as float32 needs.

    Raises:
        UserError: a box or a score is not finite.
        OSError: the file cannot be written.
    """
    data = results_json(detections)
    # Level 6 and no time stamp or file name in the header: the bytes depend on the content only.
    write_bytes_atomic(path, gzip.compress(data, compresslevel=6, mtime=0))


def results_json(detections: Iterable[Mapping[str, Any]]) -> bytes:
    """What `write_detections` compresses. Raises UserError for a box or a score that is not finite."""
    rows = [_row(item) for item in detections]
    return json.dumps(rows, separators=(",", ":"), allow_nan=False).encode()


def read_detections(path: Path) -> list[Detection]:
    """Read what `write_detections` wrote.

    Raises:
        UserError: the file is missing, cut off, or holds anything else.
    """
    try:
        rows = json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: broken or cut off; move the run's directory away and launch the run again") from error
    if not isinstance(rows, list) or not all(_is_detection(row) for row in rows):
        raise UserError(
            f"{path}: not detections; it must be a list of image_id, category_id, bbox (4 numbers) and score"
        )
    return rows


def _mask_metrics(result: COCOeval) -> dict[str, float | None]:
    precision = result.eval["precision"][:, :, :, AREAS["all"], -1]
    at = {name: threshold_index(result.params.iouThrs, THRESHOLDS[name]) for name in ("AP50", "AP75")}
    return {f"{SEGM}AP": _mean(precision), **{f"{SEGM}{name}": _mean(precision[place]) for name, place in at.items()}}


def _accumulate(coco: COCO, detections: list[Detection], kind: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, _as_results(coco, detections, kind), kind)
        evaluation.params.maxDets = list(MAX_DETECTIONS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _as_results(coco: COCO, detections: list[Detection], kind: str) -> COCO:
    """What `coco.loadRes` gives, which fails on an empty list and takes a mask's area from its box."""
    results = COCO()

    def area(item: Detection) -> float:
        return item["bbox"][2] * item["bbox"][3] if kind == BOXES else coco_masks.area(item["segmentation"])

    results.dataset = {
        "images": coco.dataset["images"],
        "categories": coco.dataset["categories"],
        "annotations": [
            {**item, "id": number, "area": area(item), "iscrowd": 0} for number, item in enumerate(detections, start=1)
        ],
    }
    results.createIndex()
    return results


def _check_known(coco: COCO, detections: list[Detection]) -> None:
    for kind, known in (("image_id", coco.imgs), ("category_id", coco.cats)):
        unknown = sorted({item[kind] for item in detections} - set(known))
        if unknown:
            raise UserError(
                f"detections: {kind} {unknown[0]} is not in the annotations ({len(unknown)} such values); "
                "they belong to another data set"
            )


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean over what has ground truth: COCOeval marks the rest with -1."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


def _class_metrics(precision: NDArray[np.float64], ious: NDArray[np.float64]) -> dict[str, float | None]:
    """AP of one class; precision is (IoU, recall)."""
    single = {name: _mean(precision[threshold_index(ious, THRESHOLDS[name])]) for name in ("AP50", "AP75", "AP90")}
    return {"AP": _mean(precision), **single}


def _row(item: Mapping[str, Any]) -> Detection:
    return {
        "image_id": int(item["image_id"]),
        "category_id": int(item["category_id"]),
        "bbox": [_shortest(value) for value in item["bbox"]],
        "score": _shortest(item["score"]),
        **({"segmentation": dict(item["segmentation"])} if "segmentation" in item else {}),
    }


def _shortest(value: Any) -> float:
    """The float with the fewest digits that is the same float32."""
    number = float(str(np.float32(value)))
    if not math.isfinite(number):
        raise UserError(f"detections: a box or score is {number}; it must be finite")
    return number


def _is_detection(row: Any) -> bool:
    numbers = (int, float)
    return (
        isinstance(row, dict)
        and isinstance(row.get("image_id"), int)
        and isinstance(row.get("category_id"), int)
        and isinstance(row.get("score"), numbers)
        and isinstance(row.get("bbox"), list)
        and len(row["bbox"]) == 4
        and all(isinstance(value, numbers) for value in row["bbox"])
        and ("segmentation" not in row or coco_masks.is_mask(row["segmentation"]))
    )

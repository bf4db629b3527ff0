"""Small data sets with detections that contain every legal oddity, and their evaluation by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from analysis.detections.matching import Matches, match
from dynamic_rcnn.metrics.columns import read_detections, read_objects

Row = dict[str, Any]
CATEGORIES = (2, 3, 7, 11)  # 11 never has an object


def coco_of(images: Sequence[int], annotations: Sequence[Row], categories: Sequence[int] = CATEGORIES) -> COCO:
    """Annotations need image_id, category_id and bbox; ids are numbered from 1, as load_ground_truth does."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in images],
        "categories": [{"id": number, "name": f"class{number}"} for number in categories],
        "annotations": [
            {"iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3], **row, "id": at}
            for at, row in enumerate(annotations, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def detection(image: int, category: int, box: Sequence[float], score: float) -> Row:
    return {"image_id": image, "category_id": category, "bbox": [float(value) for value in box], "score": score}


def odd_case(seed: int, images: int = 9, ties: bool = True) -> tuple[list[int], list[Row], list[Row]]:
    """Image ids (unsorted, with gaps), annotations and detections.

    The first image has no detections, the second no objects, the third neither, the fourth over 100 detections of a
    category. There are crowds, areas beyond COCO's range, equal boxes, boxes without width; scores come in steps.
    """
    rng = np.random.default_rng(seed)
    ids = [int(number) for number in rng.permutation(images) * 3 + 5]
    annotations: list[Row] = []
    found: list[Row] = []
    for at, image in enumerate(ids):
        for _ in range(0 if at in (1, 2) else int(rng.integers(1, 7))):
            side = rng.choice([12, 25, 60, 110, 150])
            box = [*rng.uniform(0, 140, 2).round(), *(side * rng.uniform(0.8, 1.2, 2)).round()]
            category = int(rng.choice(CATEGORIES[:3]))
            row: Row = {"image_id": image, "category_id": category, "bbox": [float(value) for value in box]}
            row["iscrowd"] = int(rng.uniform() < 0.15)
            if rng.uniform() < 0.1:
                row["area"] = 2e10
            annotations += [row] * (2 if rng.uniform() < 0.1 else 1)
            for _ in range(0 if at == 0 else int(rng.integers(0, 5))):
                moved = np.array(box) + rng.normal(0, 0.06, 4) * side * rng.integers(0, 2)
                found.append(detection(image, category, [*moved[:2], *np.maximum(moved[2:], 0)], rng.uniform()))
        if at not in (0, 2):
            many = 105 if at == 3 else int(rng.integers(0, 8))
            for _ in range(many):
                category = CATEGORIES[0] if at == 3 else int(rng.choice(CATEGORIES))
                found.append(detection(image, category, rng.uniform(0, 90, 4), rng.uniform()))
    order = rng.permutation(len(found))
    shuffled = [found[at] for at in order]
    for row in shuffled:
        row["score"] = round(row["score"] * 6) / 6 if ties else row["score"]
    return ids, annotations, shuffled


def matches_of(coco: COCO, found: Sequence[Row], area: str = "all") -> Matches:
    objects = read_objects(coco)
    return match(objects, read_detections(objects, found), area)


def evaluated(coco: COCO, found: Sequence[Row]) -> COCOeval:
    """Evaluate and accumulate with pycocotools and its default parameters."""
    results = COCO()
    results.dataset = {
        **{key: coco.dataset[key] for key in ("images", "categories")},
        "annotations": [
            {**row, "id": at, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for at, row in enumerate(found, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def resampled(coco: COCO, found: Sequence[Row], weights: Sequence[int]) -> tuple[COCO, list[Row]]:
    """Repeat each image, in the order of the ids, as often as its weight says, under new ids."""
    annotations: list[Row] = []
    detections: list[Row] = []
    count = 0
    for image, weight in zip(sorted(coco.getImgIds()), weights, strict=True):
        for _ in range(weight):
            count += 1
            annotations += [{**row, "image_id": count} for row in coco.imgToAnns[image]]
            detections += [{**row, "image_id": count} for row in found if row["image_id"] == image]
    return coco_of(range(1, count + 1), annotations, coco.getCatIds()), detections

"""hotcoco against pycocotools: all arrays of precision and recall, bit for bit, over odd data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dynamic_rcnn.metrics import precision
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from dynamic_rcnn.metrics.precision import BOXES, MASKS, Case, accumulate
from dynamic_rcnn.run.spec import EVALUATORS, HOTCOCO, PYCOCOTOOLS
from tests.dynamic_rcnn.metrics import test_ap, test_masks
from tests.dynamic_rcnn.metrics.test_ap import coco_of, detection, loaded

Rows = list[dict[str, Any]]


def assert_equal_arrays(content: dict[str, Any], detections: Rows, kind: str = BOXES) -> None:
    coco = loaded(content)
    objects = read_objects(coco)
    case = Case(coco, detections, objects, read_detections(objects, detections))
    ours, reference = (accumulate(case, kind, evaluator) for evaluator in EVALUATORS)
    for one, other in zip(ours, reference, strict=True):
        assert one.dtype == other.dtype == np.float64 and one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def draw(kind: str, seed: int, **options: Any) -> tuple[dict[str, Any], Rows]:
    return (test_ap.random_case if kind == BOXES else test_masks.case)(seed, **options)


def renumbered(content: dict[str, Any], detections: Rows, image: Callable[[int], int]) -> tuple[dict[str, Any], Rows]:
    """The same data with other image ids; images and annotations in reverse order."""
    images = [{**item, "id": image(item["id"])} for item in reversed(content["images"])]
    rows, found = (
        [{**item, "image_id": image(item["image_id"])} for item in part]
        for part in (content["annotations"], detections)
    )
    return {**content, "images": images, "annotations": rows[::-1]}, found


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (BOXES, {}),
        (BOXES, {"crowds": True}),
        (BOXES, {"ties": True}),
        (BOXES, {"classes": (1, 5)}),  # class 2 has detections, but no ground truth
        (BOXES, {"images": 1}),
        (BOXES, {"crowds": True, "ties": True, "images": 30}),
        (MASKS, {}),
        (MASKS, {"crowds": True}),
        (MASKS, {"ties": True}),
        (MASKS, {"empty": True}),
        (MASKS, {"classes": (1,)}),
        (MASKS, {"crowds": True, "ties": True, "empty": True}),
    ],
    ids=str,
)
def test_random_data(kind: str, options: dict[str, Any]) -> None:
    """With 130 detections on the first image, all of them, one and none; and without ground truth."""
    for seed in range(8):
        content, found = draw(kind, seed, **options)
        for detections in (found, found[:1], []):
            assert_equal_arrays(content, detections, kind)
    assert_equal_arrays({**content, "annotations": []}, found, kind)


@pytest.mark.parametrize("kind", [BOXES, MASKS])
@pytest.mark.parametrize("offset", [2**31, 2**53, 2**62, -(2**40)])
def test_large_and_negative_ids_in_any_order(kind: str, offset: int) -> None:
    """Neighbouring ids above 2**53 are the same float."""
    content, found = renumbered(*draw(kind, 2, crowds=True, ties=True), image=lambda number: offset + 12 - number)
    assert_equal_arrays(content, found, kind)


@pytest.mark.parametrize("side", [31.9999, 32.0, 32.0001, 95.9999, 96.0, 96.0001])
@pytest.mark.parametrize("crowd", [0, 1])
def test_areas_at_the_bounds_of_small_medium_and_large(side: float, crowd: int) -> None:
    box = [10.0, 10.0, side, side]
    boxes = [{"image_id": 0, "category_id": 1, "bbox": box, "iscrowd": crowd}]
    assert_equal_arrays(coco_of(boxes, images=1), [detection(0, 1, box, 0.5), detection(0, 1, box, 0.5)])


@pytest.mark.parametrize("share", [value / 20 for value in range(10, 20)])
def test_ious_at_the_thresholds(share: float) -> None:
    """The IoU of a part of a box with it, at each threshold and in the next floats on both sides."""
    for width in (100 * share, np.nextafter(100 * share, 0), np.nextafter(100 * share, 200)):
        boxes = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 100, 100]}]
        found = [{"image_id": 0, "category_id": 1, "bbox": [0.0, 0.0, float(width), 100.0], "score": 0.5}]
        assert_equal_arrays(coco_of(boxes, images=1), found)


def test_boxes_without_an_area_and_annotations_of_unknown_images() -> None:
    content, found = draw(BOXES, 4)
    content["annotations"] += [
        {"id": 900, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 0], "area": 0, "iscrowd": 0},
        {"id": 901, "image_id": 777, "category_id": 1, "bbox": [5, 5, 9, 9], "area": 81, "iscrowd": 0},
        {"id": 902, "image_id": 1, "category_id": 88, "bbox": [5, 5, 9, 9], "area": 81, "iscrowd": 0},
    ]
    assert_equal_arrays(content, [*found, detection(1, 1, [5, 5, 0, 0], 0.9), detection(1, 1, [-9, -9, 5, 1e6], -1.0)])


@pytest.mark.parametrize("masks", [False, True])
def test_each_evaluator_gives_the_same_metrics_by_itself(monkeypatch: pytest.MonkeyPatch, masks: bool) -> None:
    content, found = draw(MASKS, 1, crowds=True)
    results = []
    for evaluator, other in ((HOTCOCO, "_by_pycocotools"), (PYCOCOTOOLS, "_by_hotcoco")):
        with monkeypatch.context() as patch:
            patch.delattr(precision, other)
            results.append(evaluate(loaded(content), found, masks, evaluator))
    assert results[0] == results[1] and results[0]["metrics"]["AP"] > 0

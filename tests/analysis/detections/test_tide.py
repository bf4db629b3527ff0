"""analysis.detections.tide: cases worked out by hand, and AP against pycocotools."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from analysis.detections.tide import IGNORED, IOUS, KINDS, NO_ERROR, Errors, error_frame, find_box_errors, find_errors
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis import tide
from tests.analysis.drawn_detections import Row, coco_of, detection, odd_case

A, B = 2, 3
BOX = [0.0, 0.0, 100.0, 100.0]
AWAY = [300.0, 0.0, 100.0, 100.0]
THIRTY = [0.0, 0.0, 100.0, 30.0]  # IoU 0.3 with BOX
NINETY = [0.0, 0.0, 100.0, 90.0]  # IoU 0.9 with BOX


def thing(box: Sequence[float], category: int = A, crowd: int = 0) -> Row:
    return {"image_id": 1, "category_id": category, "bbox": list(box), "iscrowd": crowd}


def errors(objects: list[Row], found: list[Row], iou: float = 0.5, categories: Sequence[int] = (A, B)) -> Errors:
    read = read_objects(coco_of([1, 2], objects, categories))
    (result,) = find_errors(read, read_detections(read, found), [iou])
    return result


def only(result: Errors, **expected: int) -> None:
    assert {kind: count for kind, count in result.count.items() if count} == expected


def test_one_error_of_each_kind() -> None:
    """A has two objects and a true detection before all false ones: AP 51/101. B has none: AP 0. AP is their mean."""
    missed = [0.0, 300.0, 100.0, 100.0]
    found = [
        detection(1, A, BOX, 0.9),
        detection(1, A, NINETY, 0.8),  # duplicate
        detection(1, A, THIRTY, 0.7),  # localisation, of an object that is found
        detection(1, A, AWAY, 0.6),  # classification
        detection(1, A, [600, 600, 50, 50], 0.5),  # background
        detection(1, B, THIRTY, 0.4),  # both
    ]
    result = errors([thing(BOX), thing(AWAY, B), thing(missed)], found)
    assert set(result.count.values()) == {1}
    assert result.ap == pytest.approx(51 / 202, abs=1e-15)
    gain = {name: value for name, value in result.gain.items() if value}
    # The box becomes B's, before its false one; without the missed object A has found all
    assert gain == {"classification": pytest.approx(0.5), "missed": pytest.approx(25 / 101)}


@pytest.mark.parametrize(
    ("kind", "objects", "false"),
    [
        ("localisation", [], detection(1, A, THIRTY, 0.9)),
        ("background", [], detection(1, A, [600, 600, 50, 50], 0.9)),
        ("background", [], detection(2, A, BOX, 0.9)),  # an image without objects
        ("both", [thing(AWAY, B)], detection(1, A, [300, 0, 100, 30], 0.9)),
    ],
)
def test_a_false_positive_before_the_true_one_costs_half_of_ap(kind: str, objects: list[Row], false: Row) -> None:
    """Precision is 1/2 at every recall, and 1 without the false positive. AP of B, if it has an object, stays 0."""
    result = errors([thing(BOX), *objects], [detection(1, A, BOX, 0.5), false])
    share = 1 + len(objects)
    only(result, **{kind: 1}, **({"missed": 1} if objects else {}))
    assert result.ap == pytest.approx(0.5 / share)
    assert result.gain[kind] == pytest.approx(0.5 / share)


def test_a_duplicate() -> None:
    """By score true, duplicate, true: precision is 1 up to recall 1/2, then 2/3, so 50 recall thresholds gain 1/3."""
    found = [detection(1, A, BOX, 0.9), detection(1, A, NINETY, 0.8), detection(1, A, AWAY, 0.7)]
    result = errors([thing(BOX), thing(AWAY)], found)
    only(result, duplicate=1)
    assert result.gain["duplicate"] == pytest.approx(50 / 101 / 3)


def test_only_the_error_with_the_highest_score_is_fixed_for_each_object() -> None:
    """Two localisation errors have one object: the first becomes true, the second is removed, AP rises from 0 to 1."""
    found = [detection(1, A, THIRTY, 0.4), detection(1, A, [0, 0, 30, 100], 0.8)]
    result = errors([thing(BOX)], found)
    only(result, localisation=2)
    assert (result.ap, result.gain["localisation"], result.gain["missed"]) == (0, 1, 0)
    # Where a classification error with a higher score has the object, mending localisation leaves the other out
    result = errors([thing(BOX)], [detection(1, A, THIRTY, 0.4), detection(1, B, BOX, 0.8)])
    only(result, localisation=1, classification=1)
    assert (result.gain["localisation"], result.gain["classification"]) == (0, 1)


def test_the_threshold_decides_the_kind() -> None:
    found = [detection(1, A, NINETY, 0.9)]
    only(errors([thing([0, 0, 100, 99])], found, 0.9))
    only(errors([thing(BOX)], found, 0.95), localisation=1)
    only(errors([thing([0, 0, 100, 1000])], found, 0.5), background=1, missed=1)  # IoU 0.09


def test_a_detection_in_a_crowd_of_its_category_is_neither_true_nor_false() -> None:
    inside = detection(1, A, [310, 10, 20, 20], 0.9)
    objects = [thing(BOX), thing(AWAY, crowd=1)]
    assert errors(objects, [detection(1, A, BOX, 0.5), inside]).ap == 1
    assert errors([thing(BOX), thing(AWAY, B, crowd=1)], [detection(1, A, BOX, 0.5), inside]).ap == 0.5


def test_the_kinds_of_boxes_are_those_that_are_counted() -> None:
    """Detections and objects of the second image; a false detection in a crowd counts, too, and is marked."""
    second = {"image_id": 2, "category_id": A, "bbox": BOX}
    read = read_objects(coco_of([1, 2], [second, {**second, "bbox": AWAY, "iscrowd": 1}, thing(BOX)], (A, B)))
    found = [detection(2, A, THIRTY, 0.8), detection(2, A, [310, 10, 20, 20], 0.6), detection(2, A, BOX, 0.9)]
    (boxes,) = find_box_errors(read, read_detections(read, found), [0.5])
    kind = dict(zip(boxes.detection.tolist(), boxes.kind.tolist(), strict=True))
    assert kind == {2: NO_ERROR, 0: KINDS.index("localisation"), 1: IGNORED}
    assert [read.image[number] for number in np.flatnonzero(boxes.missed)] == [0]
    images, annotations, odd = odd_case(0)
    read = read_objects(coco_of(images, [{**row, "iscrowd": 0} for row in annotations]))
    detections = read_detections(read, odd)
    for boxes, result in zip(find_box_errors(read, detections), find_errors(read, detections), strict=True):
        counted = {name: int(np.count_nonzero(boxes.kind == number)) for number, name in enumerate(KINDS)}
        assert {**counted, "missed": int(boxes.missed.sum())} == result.count


def test_no_detections_and_no_objects() -> None:
    result = errors([thing(BOX)], [])
    only(result, missed=1)
    assert result.ap == 0
    empty = errors([], [detection(1, A, BOX, 0.5)])
    only(empty, background=1)
    assert math.isnan(empty.ap)


@pytest.mark.parametrize("seed", range(4))
def test_without_crowds_ap_equals_pycocotools(seed: int) -> None:
    images, annotations, found = odd_case(seed, ties=False)
    crowded = images[
        3
    ]  # over 100 detections per image, where tidecv's limit of 100 per image differs from COCO's per image and category
    objects = [{**row, "iscrowd": 0, "area": 1.0} for row in annotations if row["image_id"] != crowded]
    detections = [row for row in found if row["image_id"] != crowded]
    coco = coco_of(images, objects)
    read = read_objects(coco)
    ours = find_errors(read, read_detections(read, detections))
    metrics = evaluate(coco, detections)["metrics"]
    assert [result.iou for result in ours] == list(IOUS)
    assert [result.ap for result in ours] == pytest.approx(
        [metrics[name] for name in ("AP50", "AP75", "AP90")], abs=1e-12
    )
    for result in ours:
        errors_found = sum(count for kind, count in result.count.items() if kind != "missed")
        assert 0 < errors_found < len(detections) and all(gain >= 0 for gain in result.gain.values())


@pytest.mark.parametrize(
    "recorded", json.loads(tide.RECORDED.read_text()), ids=lambda case: f"{case['seed']}-{case['iou']}"
)
def test_errors_equal_tidecv(recorded: dict[str, Any]) -> None:
    """Compare with recorded numbers of tidecv (`tests.analysis.tide`), whose recall thresholds differ slightly."""
    images, annotations, found = tide.case(recorded["seed"])
    read = read_objects(coco_of(images, annotations, tide.WITH_OBJECTS))
    (ours,) = find_errors(read, read_detections(read, found), [recorded["iou"]])
    assert ours.count == recorded["count"]
    assert ours.ap == pytest.approx(recorded["ap"], abs=0.002)
    assert ours.gain == pytest.approx(recorded["gain"], abs=0.002)


def test_a_category_with_only_missed_objects_is_removed() -> None:
    """One of two categories is found: AP is 0.5, and 1 without the other category, as in tidecv 1.0.1."""
    result = errors([thing(BOX), thing(AWAY, B)], [detection(1, A, BOX, 0.9)])
    assert result.ap == 0.5 and result.gain["missed"] == 0.5
    assert errors([thing(BOX)], []).gain["missed"] == 1


def test_the_frame_has_means_over_the_runs() -> None:
    made = [
        Errors(0.5, ap, dict.fromkeys(KINDS, gain), dict.fromkeys(KINDS, 1)) for ap, gain in ((0.2, 0.1), (0.4, 0.3))
    ]
    frame = error_frame({"both": [[made[0]], [made[1]]], "baseline": [[made[1]]]})
    assert list(frame.columns) == ["arm", "iou", "AP", *KINDS]
    assert list(frame["arm"]) == ["both", "baseline"]
    assert np.allclose(frame.loc[0, ["AP", "missed"]].astype(float), [0.3, 0.2])

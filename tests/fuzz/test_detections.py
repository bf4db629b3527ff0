"""Damaged annotations and detections: refused in one line, or evaluated to pycocotools' numbers."""

from __future__ import annotations

import copy
import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

from analysis.detections.changes import ap_by_category_and_size, image_scores
from analysis.detections.matching import match
from analysis.detections.tide import find_errors
from analysis.detections.weighted_ap import METRICS, Accumulation
from dynamic_rcnn.data import annotations, coco_format
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import columns
from dynamic_rcnn.metrics.ap import evaluate, load_ground_truth
from dynamic_rcnn.metrics.detections import read_detections
from tests.dynamic_rcnn.metrics.test_ap import STATS, coco_of, detection, reference
from tests.fuzz.damage import assert_is_message, damaged, damaged_bytes, to_bytes

BOXES: list[dict[str, Any]] = [
    {"image_id": 0, "category_id": 1, "bbox": [10, 10, 100, 80]},
    {"image_id": 0, "category_id": 2, "bbox": [5.5, 7.25, 20, 20]},
    {"image_id": 0, "category_id": 1, "bbox": [0, 0, 300, 300], "iscrowd": 1},
    {"image_id": 1, "category_id": 1, "bbox": [50, 50, 40, 40]},
]
CONTENT = coco_of(BOXES, images=3, categories=(1, 2))
FOUND = [
    *(detection(0, 1, [10, 10, 95, 80], 0.9), detection(0, 1, [12, 10, 90, 70], 0.5)),
    *(detection(0, 2, [6, 7, 20, 20], 0.7), detection(1, 1, [52, 50, 40, 40], 0.5)),
    *(detection(2, 2, [1, 1, 30, 30], 0.3), detection(1, 2, [200, 200, 30, 30], 0.5)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    for image in CONTENT["images"]:
        Image.new("RGB", (300, 300)).save(folder / image["file_name"])
    (folder / "train.json").write_bytes(to_bytes(CONTENT))
    (folder / "detections.json.gz").write_bytes(gzip.compress(to_bytes(FOUND)))
    return folder


def assert_evaluates_as_pycocotools(annotations: Path, saved: Path) -> None:
    """Raises UserError if either file is refused."""
    coco, found = load_ground_truth(annotations), read_detections(saved)
    result = evaluate(coco, found)
    json.dumps(result, allow_nan=False)
    metrics = result["metrics"]
    content = json.loads(annotations.read_text("utf-8"))
    for number, item in enumerate(content["annotations"], start=1):
        item["id"] = number
    if found:  # loadRes fails on an empty list
        assert {name: metrics[name] for name in STATS} == reference(content, copy.deepcopy(found))
    objects = columns.read_objects(coco)
    detections = columns.read_detections(objects, found)
    matches = match(objects, detections)
    everything = np.ones(len(objects.image_ids), np.uint16)
    ours = [None if math.isnan(value) else value for value in Accumulation(matches).metrics(everything)]
    assert ours == [metrics[name] for name in METRICS]
    assert len(ap_by_category_and_size(objects, detections)) == 4 * (1 + len(objects.names))
    assert ((image_scores(matches) >= 0) & (image_scores(matches) <= 1)).all()
    for errors in find_errors(objects, detections):
        assert all(0 <= gain <= 1 or math.isnan(gain) for gain in errors.gain.values())


COORDINATE = st.one_of(st.integers(-20, 400), st.floats(-20, 400), st.sampled_from([0.5, 1e-9, 32.0, 96.0, 1e5]))
SIDE = st.one_of(st.integers(0, 300), st.floats(0, 300), st.sampled_from([0, 32.0, 96.0, 1e5]))
BOX = st.tuples(COORDINATE, COORDINATE, SIDE, SIDE).map(list)
CATEGORY = st.sampled_from([1, 2, 7])
OBJECT = st.fixed_dictionaries(
    {"image_id": st.integers(0, 3), "category_id": CATEGORY, "bbox": BOX},
    optional={"iscrowd": st.integers(0, 1), "area": st.sampled_from([0, 1, 1024, 9216, 9216.5, 1e11])},
)
SCORE = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, 1.0]))
DETECTION = st.fixed_dictionaries({"image_id": st.integers(0, 3), "category_id": CATEGORY, "bbox": BOX, "score": SCORE})


@given(st.lists(OBJECT, max_size=6), st.lists(DETECTION, max_size=12), st.booleans())
def test_valid_data(folder: Path, objects: list[dict[str, Any]], found: list[dict[str, Any]], near: bool) -> None:
    """Equal to pycocotools to the last bit. near: detections lie on the objects."""
    for item, target in zip(found, objects if near else [], strict=False):
        item |= {key: target[key] for key in ("image_id", "category_id", "bbox")}
    (folder / "val.json").write_bytes(to_bytes(coco_of(objects, images=4, categories=(1, 2, 7))))
    (folder / "valid.json.gz").write_bytes(gzip.compress(to_bytes(found)))
    assert_evaluates_as_pycocotools(folder / "val.json", folder / "valid.json.gz")


@given(st.one_of(damaged(CONTENT, most=1).map(to_bytes), damaged_bytes(to_bytes(CONTENT))))
def test_annotations(folder: Path, data: bytes) -> None:
    """What the check before training accepts can be evaluated."""
    (folder / "val.json").write_bytes(data)
    try:
        coco_format.fingerprint(folder, "train.json", "val.json")
        annotations.read_classes(folder / "val.json")
        coco_format.validate(folder, "train.json", "val.json", ".", ".")
    except UserError as error:
        assert_is_message(error)
        event("refused by the check before training")
        return
    try:
        assert_evaluates_as_pycocotools(folder / "val.json", folder / "detections.json.gz")
        event("evaluated")
    except UserError as error:
        assert "detections: " in str(error), error  # of another data set
        assert_is_message(error)
        event("other images or categories than the detections")


@given(
    st.one_of(
        damaged(FOUND).map(to_bytes).map(gzip.compress),
        damaged_bytes(to_bytes(FOUND)).map(gzip.compress),
        damaged_bytes(gzip.compress(to_bytes(FOUND), mtime=0)),
    )
)
def test_detections(folder: Path, data: bytes) -> None:
    saved = folder / "damaged.json.gz"
    saved.write_bytes(data)
    try:
        assert_evaluates_as_pycocotools(folder / "train.json", saved)
        event("evaluated")
    except UserError as error:
        assert_is_message(error)
        assert "damaged.json.gz: " in str(error) or "detections: " in str(error)

"""Masks: their evaluation, the file of detections with them, their prediction, and models without masks."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths
from pycocotools.cocoeval import COCOeval

from dynamic_rcnn.data.coco_format import validate
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import masks
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.detections import read_detections, write_detections
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco
from tests.dynamic_rcnn.metrics.test_ap import coco_of, loaded

SIDE = 60
NAMES = ("segm_AP", "segm_AP50", "segm_AP75")


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def around(mask: np.ndarray) -> list[float]:
    if not mask.any():
        return [0.0, 0.0, 0.0, 0.0]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [float(v) for v in (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])]


def detection(image: int, category: int, mask: np.ndarray, score: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": around(mask),
        "score": float(np.float32(score)),
        "segmentation": masks.encode(mask),
    }


def case(seed: int, crowds: bool = False, ties: bool = False, empty: bool = False, classes: tuple[int, ...] = (1, 2)):
    """Ground truth as polygons and run lengths of both kinds; detections near it, false ones and, if asked, empty."""
    rng = np.random.RandomState(seed)
    objects, found = [], []
    for image in range(6):
        for _ in range(rng.randint(0, 4) + (image == 0)):
            x, y, radius = [*rng.uniform(8, SIDE - 8, 2), rng.uniform(3, 14)]
            mask, category = disc(x, y, radius), int(rng.choice(classes))
            crowd = int(crowds and rng.uniform() < 0.3)
            form = 1 if crowd else rng.randint(3)
            shape: Any = masks.encode(mask)
            if form == 1:
                counts = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.ravel(order="F"), [2]]))))
                shape = {"size": [SIDE, SIDE], "counts": ([] if not mask[0, 0] else [0]) + counts.tolist()}
            elif form == 2:
                shape = [[x - radius, y - radius, x + radius, y - radius, x, y + radius]]
            item = {"image_id": image, "category_id": category, "bbox": around(mask), "iscrowd": crowd}
            objects.append({**item, "area": float(mask.sum()), "segmentation": shape})
            for _ in range(rng.randint(0, 4)):
                moved = disc(*(np.array([x, y, radius]) + rng.normal(0, 0.1, 3) * radius))
                found.append(detection(image, category, moved, rng.uniform()))
        for _ in range(rng.randint(0, 3)):
            found.append(
                detection(image, int(rng.choice([1, 2])), disc(*rng.uniform(5, 40, 2), 6), rng.uniform(0, 0.6))
            )
        if empty:
            found.append(detection(image, 1, np.zeros((SIDE, SIDE), bool), 0.9))
    if ties:
        for item in found:
            item["score"] = round(item["score"] * 4) / 4
    content = coco_of(objects, images=6, categories=(1, 2))
    for image in content["images"]:
        image |= {"height": SIDE, "width": SIDE}
    return content, found


def reference(content: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, float | None]:
    """The metrics that pycocotools computes from the masks alone; given boxes, it would take their areas."""
    coco = loaded(content)
    alone = [{key: value for key, value in copy.deepcopy(item).items() if key != "bbox"} for item in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(alone), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if v == -1 else float(v) for name, v in zip(NAMES, evaluation.stats[:3], strict=True)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [{}, {"crowds": True}, {"ties": True}, {"empty": True}, {"classes": (1,)}],
    ids=["random", "crowds", "ties", "empty masks", "one class missing"],
)
def test_equals_pycocotools_to_the_last_bit(seed: int, options: dict[str, Any]) -> None:
    content, found = case(seed, **options)
    metrics = evaluate(loaded(content), found, masks=True)["metrics"]
    expected = reference(content, found)
    assert {name: metrics[name] for name in NAMES} == expected
    assert 0 < expected["segm_AP"] < 1  # type: ignore[operator]


def test_masks_add_three_metrics_and_change_none() -> None:
    content, found = case(0)
    with_masks, without = (evaluate(loaded(content), found, masks=flag) for flag in (True, False))
    added = {name: with_masks["metrics"].pop(name) for name in NAMES}
    assert with_masks == without and added["segm_AP"] != without["metrics"]["AP"]


def test_by_hand() -> None:
    """The left half of a square of 10 x 10: IoU 0.5 with it as a mask, and as a box."""
    whole, half = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    whole[5:15, 5:15] = half[5:15, 5:10] = True
    item = {"image_id": 0, "category_id": 1, "bbox": around(whole), "segmentation": masks.encode(whole)}
    content = coco_of([item], images=1)
    content["images"][0] |= {"height": SIDE, "width": SIDE}
    metrics = evaluate(loaded(content), [detection(0, 1, half, 0.5)], masks=True)["metrics"]
    assert metrics["segm_AP50"] == pytest.approx(1.0) and metrics["segm_AP75"] == 0.0
    assert metrics["segm_AP"] == pytest.approx(0.1) == metrics["AP"]


def test_no_detection_is_zero_and_no_ground_truth_undefined() -> None:
    content, found = case(0)
    assert [evaluate(loaded(content), [], masks=True)["metrics"][name] for name in NAMES] == [0.0] * 3
    nothing = {**content, "annotations": []}
    assert [evaluate(loaded(nothing), found, masks=True)["metrics"][name] for name in NAMES] == [None] * 3


def test_a_missing_mask_or_one_of_another_size_is_refused() -> None:
    content, found = case(0)
    without = [{key: value for key, value in found[0].items() if key != "segmentation"}]
    with pytest.raises(UserError, match=r"detections: one on image 0 has no mask; the image is 60 x 60"):
        evaluate(loaded(content), without, masks=True)
    other = [{**found[0], "segmentation": masks.encode(np.ones((SIDE, 2 * SIDE), bool))}]
    with pytest.raises(UserError, match=r"has a mask of \[60, 120\]; the image is 60 x 60"):
        evaluate(loaded(content), other, masks=True)
    del content["annotations"][0]["segmentation"]
    with pytest.raises(UserError, match="annotations: some have no segmentation"):
        evaluate(loaded(content), found, masks=True)


def test_saved_masks_evaluate_to_the_same_bits(tmp_path: Path) -> None:
    content, found = case(1, crowds=True)
    annotations, saved = tmp_path / "val.json", tmp_path / "detections.json.gz"
    annotations.write_text(json.dumps(content))
    write_detections(saved, found)
    assert [item["segmentation"] for item in read_detections(saved)] == [item["segmentation"] for item in found]
    first = evaluate(annotations, read_detections(saved), masks=True)
    write_detections(saved, read_detections(saved))
    assert json.dumps(evaluate(annotations, read_detections(saved), masks=True)) == json.dumps(first)
    for wrong in ("x", {"size": [60], "counts": "a"}, {"size": [60, 60], "counts": [1]}, {"counts": "a"}):
        saved.write_bytes(gzip.compress(json.dumps([{**found[0], "segmentation": wrong}]).encode()))
        with pytest.raises(UserError, match="not detections"):
            read_detections(saved)


def test_detections_without_masks_are_written_as_before(tmp_path: Path) -> None:
    """The content equals, byte for byte, what the first version wrote."""
    path = tmp_path / "detections.json.gz"
    write_detections(path, [{"image_id": 3, "category_id": 7, "bbox": [1, 2.5, 3, 4], "score": np.float32(0.1)}])
    content = gzip.decompress(path.read_bytes())
    assert content == b'[{"image_id":3,"category_id":7,"bbox":[1.0,2.5,3.0,4.0],"score":0.1}]'


def test_a_mask_is_encoded_as_pycocotools_does() -> None:
    mask = disc(20, 31, 9)
    encoded = masks.encode(mask)
    assert np.array_equal(run_lengths.decode(encoded).astype(bool), mask) and masks.area(encoded) == mask.sum()
    assert masks.is_mask(json.loads(json.dumps(encoded)))


def test_annotations_without_masks_are_refused_before_anything_starts(tmp_path: Path) -> None:
    write_coco(tmp_path)
    validate(tmp_path, *LAYOUT.values(), masks=True)

    def strip(content: Any) -> None:
        content["annotations"][1].pop("segmentation")

    edit_json(tmp_path / LAYOUT["val_ann"], strip)
    validate(tmp_path, *LAYOUT.values())
    with pytest.raises(UserError, match=r"annotation 102: has no segmentation, which a model with masks needs"):
        validate(tmp_path, *LAYOUT.values(), masks=True)

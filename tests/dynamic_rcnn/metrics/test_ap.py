"""Metrics against pycocotools' own summary, and against cases computed by hand."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.detections import read_detections, write_detections

# The order of COCOeval.stats
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
METRICS = {*STATS, "AP60", "AP70", "AP80", "AP90"}


def coco_of(boxes: list[dict[str, Any]], images: int, categories: tuple[int, ...] = (1, 2, 5)) -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "height": 300, "width": 300} for number in range(images)
        ],
        "categories": [{"id": number, "name": f"class{number}"} for number in categories],
        "annotations": [
            {"id": at + 1, "iscrowd": 0, "area": item["bbox"][2] * item["bbox"][3], **item}
            for at, item in enumerate(boxes)
        ],
    }


def loaded(content: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = copy.deepcopy(content)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def reference(content: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, float | None]:
    """The metrics that pycocotools prints, with None for -1."""
    coco = loaded(content)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if value == -1 else float(value) for name, value in zip(STATS, evaluation.stats, strict=True)}


def random_case(
    seed: int,
    images: int = 12,
    crowds: bool = False,
    ties: bool = False,
    classes: tuple[int, ...] = (1, 2, 5),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth of all sizes; detections near it and false ones, over 100 on the first image."""
    rng = np.random.RandomState(seed)
    boxes: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(rng.randint(0, 6) + (image == 0)):
            side = rng.choice([12, 25, 60, 110, 150])
            box = [*rng.uniform(0, 140, 2), *(side * rng.uniform(0.8, 1.2, 2))]
            category = int(rng.choice(classes))
            crowd = int(crowds and rng.uniform() < 0.3)
            boxes.append({"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd})
            for _ in range(rng.randint(0, 4)):
                moved = np.array(box) + rng.normal(0, 0.05, 4) * side
                detections.append(detection(image, category, moved, rng.uniform()))
        for _ in range(130 if image == 0 else rng.randint(0, 4)):
            box = [*rng.uniform(0, 200, 2), *rng.uniform(10, 100, 2)]
            detections.append(detection(image, int(rng.choice([1, 2, 5])), box, rng.uniform(0, 0.6)))
    if ties:
        for item in detections:
            item["score"] = round(item["score"] * 4) / 4
    return coco_of(boxes, images), detections


def detection(image: int, category: int, box: Any, score: float) -> dict[str, Any]:
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [float(np.float32(value)) for value in box],
        "score": float(np.float32(score)),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crowds": True},
        {"ties": True},
        {"classes": (1, 5)},  # class 2 has detections, but no ground truth
        {"images": 1},
        {"crowds": True, "ties": True, "images": 30},
    ],
    ids=["random", "crowds", "ties", "one class missing", "single image", "all at once"],
)
def test_equals_pycocotools_to_the_last_bit(seed: int, options: dict[str, Any]) -> None:
    content, detections = random_case(seed, **options)
    found = evaluate(loaded(content), detections)["metrics"]
    expected = reference(content, detections)
    assert {name: found[name] for name in STATS} == expected
    assert 0 < expected["AP"] < 1  # type: ignore[operator]
    assert set(found) == METRICS


def test_by_iou_holds_the_single_thresholds_and_averages_to_ap() -> None:
    content, detections = random_case(7)
    found = evaluate(loaded(content), detections)
    by_iou, metrics = found["by_iou"], found["metrics"]
    positions = {"AP50": 0, "AP60": 2, "AP70": 4, "AP75": 5, "AP80": 6, "AP90": 8}
    assert len(by_iou) == 10
    assert {name: by_iou[at] for name, at in positions.items()} == {name: metrics[name] for name in positions}
    assert by_iou == sorted(by_iou, reverse=True)
    assert len(set(by_iou[5:])) == 5
    assert np.mean(by_iou) == pytest.approx(metrics["AP"], abs=1e-12)


def test_per_class_averages_to_ap_and_is_none_without_ground_truth() -> None:
    content, detections = random_case(3, classes=(1, 5))
    found = evaluate(loaded(content), detections)
    per_class = found["per_class"]
    assert list(per_class) == ["class1", "class2", "class5"]
    assert per_class["class2"] == {"AP": None, "AP50": None, "AP75": None, "AP90": None}
    for name in ("AP", "AP50", "AP75", "AP90"):
        mean = (per_class["class1"][name] + per_class["class5"][name]) / 2
        assert mean == pytest.approx(found["metrics"][name], abs=1e-12)


def test_empty_detections_give_zeros() -> None:
    content, _ = random_case(1)
    found = evaluate(loaded(content), [])
    assert found["images"] == 12
    assert found["metrics"] == dict.fromkeys(METRICS, 0.0)
    assert found["by_iou"] == [0.0] * 10
    assert found["per_class"]["class1"] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0, "AP90": 0.0}


def test_empty_ground_truth_is_undefined_not_zero() -> None:
    _, detections = random_case(1)
    content = coco_of([], images=12)
    expected = dict.fromkeys(METRICS)
    for found in (evaluate(loaded(content), detections), evaluate(loaded(content), [])):
        assert found["metrics"] == expected
        assert found["by_iou"] == [None] * 10
        assert found["per_class"]["class5"]["AP"] is None
    assert set(reference(content, detections).values()) == {None}


def test_only_crowds_is_undefined() -> None:
    content = coco_of([{"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1}], images=1)
    assert evaluate(loaded(content), [detection(0, 1, [0, 0, 50, 50], 0.9)])["metrics"] == dict.fromkeys(METRICS)


@pytest.mark.parametrize(
    ("width", "counted"),
    [
        (92, {"AP50": 1, "AP60": 1, "AP70": 1, "AP75": 1, "AP80": 1, "AP90": 1}),
        (88, {"AP50": 1, "AP60": 1, "AP70": 1, "AP75": 1, "AP80": 1, "AP90": 0}),
        (77, {"AP50": 1, "AP60": 1, "AP70": 1, "AP75": 1, "AP80": 0, "AP90": 0}),
        (65, {"AP50": 1, "AP60": 1, "AP70": 0, "AP75": 0, "AP80": 0, "AP90": 0}),
        (55, {"AP50": 1, "AP60": 0, "AP70": 0, "AP75": 0, "AP80": 0, "AP90": 0}),
    ],
)
def test_one_box_counts_up_to_its_iou(width: int, counted: dict[str, int]) -> None:
    """A detection `width` wide inside a box 100 wide has IoU width / 100."""
    content = coco_of([{"image_id": 0, "category_id": 1, "bbox": [10, 10, 100, 100]}], images=1)
    found = evaluate(loaded(content), [detection(0, 1, [10, 10, width, 100], 0.9)])
    assert {name: found["metrics"][name] for name in counted} == pytest.approx(counted, abs=1e-12)
    assert found["metrics"]["AP"] == pytest.approx(sum(found["by_iou"]) / 10)
    assert found["per_class"]["class1"]["AP90"] == found["metrics"]["AP90"]


def test_ap90_by_hand() -> None:
    """Two boxes; by score: a hit at IoU 0.92, a miss at 0.88 (a hit below 0.9), a hit at 0.95.

    At IoU 0.9 precision is 1, 1/2, 2/3 at recall 1/2, 1/2, 1. Interpolated: 1 at the 51 recalls 0 to 0.5,
    2/3 at the 50 above. At IoU 0.8 the second detection is the second hit: precision 1 throughout.
    """
    content = coco_of(
        [
            {"image_id": 0, "category_id": 1, "bbox": [0, 0, 100, 100]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100]},
        ],
        images=2,
    )
    detections = [
        detection(0, 1, [0, 0, 92, 100], 0.9),
        detection(1, 1, [0, 0, 88, 100], 0.8),
        detection(1, 1, [0, 0, 95, 100], 0.7),
    ]
    metrics = evaluate(loaded(content), detections)["metrics"]
    assert metrics["AP90"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    assert metrics["AP80"] == pytest.approx(1.0, abs=1e-12)


def test_detections_of_another_data_set_are_refused() -> None:
    content, detections = random_case(0)
    coco = loaded(content)
    with pytest.raises(UserError, match=r"detections: image_id 99 is not in the annotations \(1 such values\)"):
        evaluate(coco, [*detections, detection(99, 1, [0, 0, 1, 1], 0.5)])
    with pytest.raises(UserError, match=r"detections: category_id 3 is not in the annotations"):
        evaluate(coco, [detection(0, 3, [0, 0, 1, 1], 0.5)])


def test_inputs_are_not_modified_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    content, detections = random_case(0)
    before = copy.deepcopy(detections)
    coco = loaded(content)
    first = evaluate(coco, detections)
    assert evaluate(coco, detections) == first
    assert detections == before
    assert capfd.readouterr() == ("", "")


def test_saved_detections_evaluate_to_the_same_bits(tmp_path: Path) -> None:
    content, detections = random_case(5, crowds=True)
    annotations, saved = tmp_path / "val.json", tmp_path / "detections.json.gz"
    annotations.write_text(json.dumps(content))
    write_detections(saved, detections)
    assert read_detections(saved) == [
        {
            **item,
            "bbox": [float(str(np.float32(v))) for v in item["bbox"]],
            "score": float(str(np.float32(item["score"]))),
        }
        for item in detections
    ]
    first = evaluate(annotations, read_detections(saved))
    write_detections(saved, read_detections(saved))
    assert json.dumps(evaluate(annotations, read_detections(saved))) == json.dumps(first)
    assert first["metrics"] == evaluate(loaded(content), read_detections(saved))["metrics"]
    json.dumps(first, allow_nan=False)  # no numpy numbers


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "content is a list; it must be an object with 'images', 'annotations' and 'categories'"),
        ("{", "not JSON: "),
        ("{}", "key 'images' is missing; "),
        ('{"images": [], "categories": [], "annotations": []}', "'categories' is empty; "),
        (
            json.dumps(coco_of([{"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5]}], 1, (1,))),
            "annotation 1: image",
        ),
    ],
)
def test_annotations_that_changed_since_their_check_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "val.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{path}: {fault}")):
        evaluate(path, [])


def test_masks_that_changed_since_their_check_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(coco_of([{"image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5]}], 1, (1,))))
    evaluate(path, [])
    with pytest.raises(UserError, match=re.escape(f"{path}: annotation 1: ")):
        evaluate(path, [], masks=True)


def test_annotations_are_read_as_utf_8_in_any_locale(tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    content = coco_of([{"image_id": 0, "category_id": 1, "bbox": [0, 0, 50, 50]}], images=1, categories=(1,))
    content["categories"][0]["name"] = "Füchse 猫"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    code = (
        "from pathlib import Path\nfrom dynamic_rcnn.metrics.ap import load_ground_truth\n"
        f"print(ascii(load_ground_truth(Path({str(path)!r})).cats[1]['name']))"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == ascii("Füchse 猫") + "\n", done.stderr


def test_imports_no_torch() -> None:
    code = "import sys, dynamic_rcnn.metrics.ap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_annotation_with_id_0_counts(tmp_path: Path) -> None:
    """COCOeval takes the id 0 for "no match": the same boxes numbered from 0 and from 1 have the same AP."""
    scores = []
    for first in (0, 1, 7):
        boxes = [[10.0 * i, 5.0, 8.0, 8.0] for i in range(3)]
        content = {
            "images": [{"id": 1, "width": 64, "height": 64, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [
                {"id": first + i, "image_id": 1, "category_id": 1, "bbox": box, "area": 64.0, "iscrowd": 0}
                for i, box in enumerate(boxes)
            ],
        }
        path = tmp_path / f"{first}.json"
        path.write_text(json.dumps(content))
        found = [{"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5} for box in boxes]
        scores.append(evaluate(path, found)["metrics"]["AP"])
    assert scores == [pytest.approx(1.0)] * 3

"""Which boxes are used: counted by mmdet's rules, refused if none is left, and compared with mmdet's own loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynamic_rcnn.data.annotations import read_annotations
from dynamic_rcnn.data.coco_checks import Boxes, Problems, check_annotations
from dynamic_rcnn.data.coco_format import validate
from dynamic_rcnn.data.usable import training_reasons
from dynamic_rcnn.errors import UserError
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco

TRAIN, VAL = LAYOUT["train_ann"], LAYOUT["val_ann"]
WIDTH, HEIGHT = 100, 80
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    return tmp_path


def each(change: Change) -> Change:
    """Apply `change` to every annotation."""
    return lambda content: [change(item) for item in content["annotations"]]


def as_corners(item: dict[str, Any]) -> None:
    x, y, width, height = item["bbox"]
    item["bbox"] = [x, y, x + width, y + height]


def normalised(item: dict[str, Any]) -> None:
    item["bbox"] = [value / 200 for value in item["bbox"]]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        (TRAIN, each(lambda item: item.update(area=0)), "(11 boxes: 1 of width or height 0, 10 of area 0)"),
        (TRAIN, each(lambda item: item.update(ignore=1)), "(11 boxes: 11 marked ignore)"),
        (TRAIN, each(lambda item: item["bbox"].__setitem__(2, 0.9)), "10 smaller than 1 pixel)"),
        (TRAIN, each(lambda item: item["bbox"].__setitem__(0, 500)), "10 outside their image)"),
        (TRAIN, each(lambda item: item.update(iscrowd=1)), "10 crowds)"),
        (TRAIN, lambda content: content["annotations"].clear(), "no box is left to train on (there is none)"),
        (TRAIN, each(normalised), "the boxes look normalised (all numbers are from 0 to 1); bbox must be in pixels"),
        (VAL, each(lambda item: item["bbox"].__setitem__(0, -500)), "no box is left to evaluate ("),
        (VAL, each(lambda item: item.update(iscrowd=1)), "no box is left to evaluate ("),
    ],
)
def test_data_of_which_nothing_is_used_are_refused(root: Path, name: str, change: Change, expected: str) -> None:
    edit_json(root / name, change)
    with pytest.raises(UserError) as caught:
        validate(root, **LAYOUT)
    assert str(caught.value).startswith(f"{root / name}: ") and expected in str(caught.value)


def test_images_that_are_all_too_small_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"10 in images smaller than 500 pixels\)"):
        validate(root, **LAYOUT, min_size=500)


def test_many_dropped_boxes_are_named_with_their_numbers(root: Path) -> None:
    edit_json(root / TRAIN, lambda content: [item.update(area=0) for item in content["annotations"][4:7]])
    notes = validate(root, **LAYOUT)
    expected = "not used to train on: 4 of 11 boxes (1 of width or height 0, 3 of area 0)"
    assert notes[0] == f"{root / TRAIN}: {expected}"


def test_few_dropped_boxes_and_crowds_are_not_worth_a_note(root: Path) -> None:
    def many(content: dict[str, Any]) -> None:
        first = content["annotations"][0]
        content["annotations"] += [{**first, "id": 1000 + number} for number in range(30)]
        content["annotations"] += [{**first, "id": 2000 + number, "iscrowd": 1} for number in range(30)]

    for name in (TRAIN, VAL):
        edit_json(root / name, many)
    assert validate(root, **LAYOUT) == []


def drawn(count: int, seed: int = 0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, WIDTH * 0.7, count), rng.uniform(0, HEIGHT * 0.7, count)
    return np.stack([x, y, rng.uniform(5, WIDTH - x), rng.uniform(5, HEIGHT - y)], axis=1).tolist()


def write_boxes(root: Path, boxes: list[list[float]]) -> None:
    def change(content: dict[str, Any]) -> None:
        template = content["annotations"][0]
        content["images"][0].update(width=WIDTH, height=HEIGHT)
        rows = [{**template, "id": 1 + at, "bbox": box, "area": 50} for at, box in enumerate(boxes)]
        content["annotations"][:] = rows

    edit_json(root / TRAIN, change)


def test_corners_are_recognised_and_boxes_are_not_taken_for_them(root: Path) -> None:
    for seed in range(5):
        boxes = drawn(40, seed)
        write_boxes(root, boxes)
        validate(root, **LAYOUT)
        write_boxes(root, [[x, y, x + width, y + height] for x, y, width, height in boxes])
        with pytest.raises(UserError, match=r"the boxes look like corners \[x1, y1, x2, y2\]; bbox must be"):
            validate(root, **LAYOUT)


def test_boxes_that_fill_their_images_are_not_corners(root: Path) -> None:
    write_boxes(root, [[0, 0, WIDTH, HEIGHT]] * 20)
    validate(root, **LAYOUT)


def checked(path: Path) -> Boxes:
    problems = Problems()
    boxes = check_annotations(read_annotations(path), problems)
    assert boxes is not None, problems
    return boxes


def test_the_count_is_that_of_mmdet(root: Path) -> None:
    """The same boxes as mmdet's CocoDataset loads, over boxes of every odd kind."""
    from dynamic_rcnn import method  # noqa: F401  makes mmdet usable
    from dynamic_rcnn.engine.coco_dataset import Utf8CocoDataset

    odd = [
        [-30, 5, 20, 20],
        [-5, 5, 20, 20],
        [99.5, 2, 10, 10],
        [5, 5, 0.5, 9],
        [5, 5, 1, 1],
        [5, 5, 0, 0],
        [0, 79, 9, 2],
    ]
    write_boxes(root, odd * 4)

    def marks(content: dict[str, Any]) -> None:
        for at, item in enumerate(content["annotations"]):
            item.update(ignore=at // 7 == 1, area=0 if at // 7 == 2 else 9, iscrowd=int(at // 7 == 3))
        template = content["annotations"][4]
        content["annotations"] += [{**template, "id": 900 + at, "image_id": 13, "ignore": 0} for at in range(3)]

    edit_json(root / TRAIN, marks)
    min_size = 70
    dataset = Utf8CocoDataset(
        ann_file=str(root / TRAIN),
        metainfo={"classes": ("cat", "dog", "bird")},
        filter_cfg={"filter_empty_gt": True, "min_size": min_size},
        data_prefix={"img": ""},
        pipeline=[],
    )
    loaded = [item for at in range(len(dataset)) for item in dataset.get_data_info(at)["instances"]]
    reasons = training_reasons(checked(root / TRAIN), min_size)
    crowds = int(reasons.pop("crowds").sum())
    unused = sum(int(which.sum()) for which in reasons.values())
    assert len(json.loads((root / TRAIN).read_text())["annotations"]) - unused == len(loaded) > 0
    assert crowds == sum(item["ignore_flag"] for item in loaded) > 0

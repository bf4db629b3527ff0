"""Every rule for a data set in COCO format, with the message that a user sees."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.data.annotations import read_classes
from dynamic_rcnn.data.coco_format import fingerprint, validate
from dynamic_rcnn.errors import UserError
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco

TRAIN = LAYOUT["train_ann"]
VAL = LAYOUT["val_ann"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    return tmp_path


def message(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        validate(root, **LAYOUT)
    text = str(caught.value)
    assert "\n" not in text
    return text


def message_after(root: Path, change: Callable[[Any], Any], name: str = TRAIN) -> str:
    edit_json(root / name, change)
    return message(root)


def set_first(section: str, key: str, value: Any) -> Callable[[Any], Any]:
    def change(content: Any) -> None:
        content[section][0][key] = value

    return change


def test_legal_data_with_gaps_crowds_empty_and_grey_images_pass(root: Path) -> None:
    validate(root, **LAYOUT)
    assert read_classes(root / VAL) == ("cat", "dog", "bird")
    parts = [hashlib.sha256((root / name).read_bytes()).digest() for name in (TRAIN, VAL)]
    digests = fingerprint(root, TRAIN, VAL)
    assert (digests.both, digests.train) == (hashlib.sha256(b"".join(parts)).hexdigest(), parts[0].hex())


def test_fingerprint_changes_with_either_annotation_file(root: Path) -> None:
    before = fingerprint(root, TRAIN, VAL)
    edit_json(root / VAL, set_first("annotations", "area", 1))
    after = fingerprint(root, TRAIN, VAL)
    edit_json(root / TRAIN, set_first("annotations", "area", 1))
    last = fingerprint(root, TRAIN, VAL)
    assert len({before.both, after.both, last.both}) == 3
    assert before.train == after.train != last.train


def test_missing_root(tmp_path: Path) -> None:
    absent = tmp_path / "nowhere"
    assert message(absent) == f"{absent}: no such folder; dataset.root must be the folder of the data set"


def test_missing_annotation_file(root: Path) -> None:
    (root / VAL).unlink()
    expected = f"{root / VAL}: no such file; dataset.val_ann must be an annotation file below {root}"
    assert message(root) == expected
    with pytest.raises(UserError, match=r"val\.json: no such file"):
        fingerprint(root, TRAIN, VAL)


def test_broken_json(root: Path) -> None:
    (root / TRAIN).write_text('{"images": [')
    assert message(root) == f"{root / TRAIN}: not JSON: Expecting value: line 1 column 13 (char 12)"


def test_invalid_utf_8(root: Path) -> None:
    (root / TRAIN).write_bytes(b"\xff\xfe\xfd\x00")
    assert message(root).startswith(f"{root / TRAIN}: not JSON: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "content is a list; it must be an object with 'images', 'annotations' and 'categories'"),
        (
            {"images": [], "categories": []},
            "key 'annotations' is missing; required: 'images', 'annotations' and 'categories'",
        ),
        ({"images": {}, "annotations": [], "categories": []}, "'images' is a dict; it must be a list"),
        (
            {"images": [], "annotations": [], "categories": []},
            "'categories' is empty; at least one is needed",
        ),
    ],
)
def test_sections(root: Path, content: Any, expected: str) -> None:
    (root / TRAIN).write_text(json.dumps(content))
    assert message(root) == f"{root / TRAIN}: {expected}"


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("images", "id", "ten", "image number 1: id is 'ten'; it must be an integer"),
        ("images", "id", True, "image number 1: id is True; it must be an integer"),
        ("images", "width", 0, "image 10: size is 0 x 97; width and height must be from 1 to 2147483647"),
        ("images", "width", 2**63, f"image 10: size is {2**63} x 97; width and height must be from 1 to 2147483647"),
        ("images", "file_name", "", "image 10: file_name is empty"),
        ("images", "file_name", 5, "image number 1: file_name is 5; it must be a text"),
        ("categories", "id", 7, "category 7: id is used twice"),
        ("categories", "name", "dog", "category 7: name 'dog' is used twice"),
        ("categories", "name", " ", "category 3: name is ' '; it must be one line of text, and not empty"),
        ("categories", "name", "a\nb", r"category 3: name is 'a\nb'; it must be one line of text, and not empty"),
        ("annotations", "id", 102, "annotation 102: id is used twice"),
        ("annotations", "image_id", 11, "annotation 100: image_id 11 is not among the images"),
        (
            "annotations",
            "category_id",
            4,
            "annotation 100: category_id 4 is not among the categories (3, 7, 90)",
        ),
        ("annotations", "bbox", {}, "annotation number 1: bbox is {}; it must be a list"),
        (
            "annotations",
            "bbox",
            [1, 2, -3, 4],
            "annotation 100: bbox is [1, 2, -3, 4]; width and height must not be negative",
        ),
        (
            "annotations",
            "bbox",
            [1, 2, 3, -4],
            "annotation 100: bbox is [1, 2, 3, -4]; width and height must not be negative",
        ),
        (
            "annotations",
            "bbox",
            [1, float("nan"), 3, 4],
            "annotation 100: bbox is [1, nan, 3, 4]; its numbers must be finite",
        ),
        (
            "annotations",
            "bbox",
            [1, 2, float("inf"), 4],
            "annotation 100: bbox is [1, 2, inf, 4]; its numbers must be finite",
        ),
        (
            "annotations",
            "bbox",
            [1, 2, 3],
            "annotation 100: bbox is [1, 2, 3]; it must be [x, y, width, height]",
        ),
        (
            "annotations",
            "bbox",
            [1, 2, 3, "4"],
            "annotation 100: bbox is [1, 2, 3, '4']; it must be four numbers",
        ),
        ("annotations", "area", -1, "annotation 100: area is -1; it must be finite and not negative"),
        ("annotations", "area", None, "annotation number 1: area is None; it must be a number"),
        ("annotations", "iscrowd", 2, "annotation 100: iscrowd is 2; it must be 0 or 1"),
        ("annotations", "iscrowd", 2**64, f"annotation 100: iscrowd is {2**64}; it must be 0 or 1"),
    ],
)
def test_one_wrong_value(root: Path, section: str, key: str, value: Any, expected: str) -> None:
    found = message_after(root, set_first(section, key, value))
    assert found.startswith(f"{root / TRAIN}: {expected}")


def test_duplicate_image_id(root: Path) -> None:
    expected = f"{root / VAL}: image 13: id is used twice"
    assert message_after(root, set_first("images", "id", 13), VAL).startswith(expected)


def test_all_missing_keys_are_reported(root: Path) -> None:
    def change(content: Any) -> None:
        del content["annotations"][0]["area"]
        del content["annotations"][0]["iscrowd"]

    required = "id, image_id, category_id, bbox, area, iscrowd"
    expected = f"{root / TRAIN}: annotation number 1: area, iscrowd missing; required: {required}"
    assert message_after(root, change) == expected


def test_an_item_that_is_not_an_object(root: Path) -> None:
    def change(content: Any) -> None:
        content["images"].append(5)

    expected = "'images': item number 7 is 5; it must be an object"
    assert message_after(root, change) == f"{root / TRAIN}: {expected}"


def test_several_problems_are_counted(root: Path) -> None:
    def change(content: Any) -> None:
        for item in content["annotations"]:
            item["bbox"][2] = -1
        assert len(content["annotations"]) > 4

    count = len(json.loads((root / TRAIN).read_text())["annotations"])
    found = message_after(root, change)
    assert found.count("must not be negative") == 3
    assert found.endswith(f"; and {count - 3} more")


def test_long_values_are_cut(root: Path) -> None:
    found = message_after(root, set_first("annotations", "bbox", list(range(10_000))))
    assert found.startswith(f"{root / TRAIN}: annotation 100: bbox is [0, 1, 2, 3, 4, 5, ...]; it must be [x, y")


def test_missing_image_is_named(root: Path) -> None:
    image = root / LAYOUT["val_img"] / "2.png"
    image.unlink()
    assert message(root) == f"{root / VAL}: image 16: file {image} is missing or empty"


def test_a_link_that_leads_back_to_itself_does_not_hide_other_files(root: Path) -> None:
    image = root / LAYOUT["val_img"] / "2.png"
    image.unlink()
    image.symlink_to("2.png")
    hint = "it is a link to 2.png, which leads back to itself"
    assert message(root) == f"{root / VAL}: image 16: file {image} is missing or empty: {hint}"


def test_missing_image_folder_names_the_first_files(root: Path) -> None:
    shutil.rmtree(root / LAYOUT["train_img"])
    found = message(root)
    first = root / LAYOUT["train_img"] / "0.png"
    assert found.startswith(f"{root / TRAIN}: image 10: file {first} is missing or empty; ")
    assert found.endswith("; and 3 more")


def test_images_in_folders_of_their_own_are_found(root: Path) -> None:
    folder = root / LAYOUT["train_img"]
    (folder / "deep").mkdir()
    (folder / "0.png").rename(folder / "deep" / "a.png")
    assert f"file {folder / '0.png'} is missing or empty" in message(root)
    edit_json(root / TRAIN, set_first("images", "file_name", "deep/a.png"))
    validate(root, **LAYOUT)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c["categories"].append({"id": 95, "name": "cow"}),
            "has category cow (95), which is not in train.json",
        ),
        (lambda c: c["categories"].reverse(), "lists the categories in another order than they have in train.json"),
        (
            lambda c: c["categories"][1].update(name="wolf"),
            "has no category dog (7), which is in train.json",
        ),
    ],
)
def test_categories_of_the_splits_differ(root: Path, change: Callable[[Any], Any], expected: str) -> None:
    assert message_after(root, change, VAL) == f"{root / VAL}: {expected}"


def test_a_training_split_without_usable_boxes_is_refused(root: Path) -> None:
    def only_crowds_and_empty_boxes(content: Any) -> None:
        for item in content["annotations"]:
            if item["bbox"][2] > 0:
                item["iscrowd"] = 1

    expected = f"{root / TRAIN}: no box is left to train on (11 boxes: 1 of width or height 0, 10 crowds)"
    assert message_after(root, only_crowds_and_empty_boxes) == expected


def test_a_validation_split_without_usable_boxes_is_refused(root: Path) -> None:
    expected = f"{root / VAL}: no box is left to evaluate (there is none)"
    assert message_after(root, lambda content: content["annotations"].clear(), VAL) == expected


def test_a_byte_order_mark_is_read_over(root: Path) -> None:
    (root / VAL).write_bytes(b"\xef\xbb\xbf" + (root / VAL).read_bytes())
    validate(root, **LAYOUT)
    assert read_classes(root / VAL) == ("cat", "dog", "bird")


def test_nan_in_a_field_that_nobody_reads_is_legal(root: Path) -> None:
    edit_json(root / TRAIN, set_first("annotations", "score", float("nan")))
    validate(root, **LAYOUT)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**100])
def test_ids_that_no_column_of_integers_holds_are_refused(root: Path, number: int) -> None:
    expected = f"{root / TRAIN}: image id {number}: must fit into 64 bits, from -2**63 to 2**63 - 1"
    assert message_after(root, set_first("images", "id", number)).startswith(expected)


def test_the_largest_id_is_legal(root: Path) -> None:
    edit_json(root / TRAIN, set_first("annotations", "id", 2**63 - 1))
    validate(root, **LAYOUT)


def test_json_nested_too_deep_is_refused(root: Path) -> None:
    (root / TRAIN).write_text("[" * 200_000)
    assert message(root).startswith(f"{root / TRAIN}: not JSON: ")


def test_an_empty_image_file_and_a_folder_in_its_place_are_named(root: Path) -> None:
    first, second = sorted((root / LAYOUT["val_img"]).rglob("*.*"))[:2]
    first.write_bytes(b"")
    second.unlink()
    second.mkdir()
    assert message(root).count("is missing or empty") == 2


def test_a_file_name_that_ends_as_a_folder_is_refused(root: Path) -> None:
    expected = f"{root / TRAIN}: image 10: file_name '0.png/' ends in a slash; it must name a file"
    assert message_after(root, set_first("images", "file_name", "0.png/")) == expected

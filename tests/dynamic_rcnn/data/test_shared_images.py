"""Images that both splits have are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.data.coco_format import validate
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    return tmp_path


def shared(root: Path, **layout: str) -> list[str]:
    return [note for note in validate(root, **{**LAYOUT, **layout}) if "trained on" in note]


def test_images_of_the_same_name_with_other_content_are_different(root: Path) -> None:
    assert shared(root) == []


def test_copies_are_found(root: Path) -> None:
    for name in ("0.png", "3.png"):
        shutil.copy(root / LAYOUT["train_img"] / name, root / LAYOUT["val_img"] / name)
    what = "2 of 4 images are also training images; AP is measured on images trained on"
    assert shared(root) == [f"{root / LAYOUT['val_ann']}: {what}"]


def test_one_folder_for_both_splits(root: Path) -> None:
    what = "4 of 4 images are also training images; AP is measured on images trained on"
    assert shared(root, val_img=LAYOUT["train_img"]) == [f"{root / LAYOUT['val_ann']}: {what}"]

    def others(content: Any) -> None:
        for image in content["images"]:
            image["file_name"] = f"val{image['file_name']}"

    for path in sorted((root / LAYOUT["val_img"]).iterdir()):
        shutil.copy(path, root / LAYOUT["train_img"] / f"val{path.name}")
    edit_json(root / LAYOUT["val_ann"], others)
    assert shared(root, val_img=LAYOUT["train_img"]) == []


def test_one_annotation_file_for_both_splits(root: Path) -> None:
    path = root / LAYOUT["train_ann"]
    expected = f"{path}: is the file of the training annotations; AP is measured on images trained on"
    assert shared(root, val_ann=LAYOUT["train_ann"], val_img=LAYOUT["train_img"]) == [expected]


def test_images_with_one_file_are_named(root: Path) -> None:
    def repeat(content: dict[str, Any]) -> None:
        for image in content["images"][1:3]:
            image["file_name"] = content["images"][0]["file_name"]

    assert not [note for note in validate(root, **LAYOUT) if "file_name" in note]
    edit_json(root / LAYOUT["train_ann"], repeat)
    one, other = (image["id"] for image in json.loads((root / LAYOUT["train_ann"]).read_text())["images"][:2])
    what = f"images {one} and {other} have the same file_name '0.png', as do 1 more; each is used"
    assert any(note.startswith(f"{root / LAYOUT['train_ann']}: {what}") for note in validate(root, **LAYOUT))

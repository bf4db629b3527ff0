"""Annotation files are hashed once, and again after they change."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dynamic_rcnn.data import dataset as datasets
from experiments.config import annotations
from experiments.config.annotations import coco_format_dataset, shared_images
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path / "data")
    set_age(tmp_path / "data")
    return tmp_path / "data"


def set_age(root: Path, seconds: float = 60) -> None:
    """Set the age of the annotation files."""
    for name in ("train_ann", "val_ann"):
        os.utime(root / LAYOUT[name], times=(time.time() - seconds,) * 2)


def read(root: Path) -> tuple[dict[str, Any], bool]:
    """The data set, and whether its files were read for it."""
    with mock.patch.object(datasets, "coco_format_dataset", wraps=datasets.coco_format_dataset) as real:
        return coco_format_dataset(root, LAYOUT), real.called


def test_files_that_have_not_changed_are_read_once(root: Path) -> None:
    first, second = read(root), read(root)
    assert (first[1], second[1]) == (True, False)
    assert first[0] == second[0] == datasets.coco_format_dataset(root, LAYOUT)


def test_files_that_have_changed_are_read_again(root: Path) -> None:
    before = read(root)[0]["fingerprint"]
    edit_json(root / LAYOUT["train_ann"], lambda content: content["annotations"].pop())
    after, again = read(root)
    assert again and after["fingerprint"] != before
    assert read(root)[1]  # the file is too new for its time stamp to be reliable
    set_age(root, 30)
    assert [read(root)[1], read(root)[1]] == [True, False]


def test_a_damaged_or_unwritable_cache_is_ignored(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = annotations._cache_file()
    for text in ("{", "[]", '{"x": 3}', '{"x": {"fingerprint": "y"}}', "\x00"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        assert read(root)[1]
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert [read(root)[1], read(root)[1]] == [True, True]


def test_images_that_both_splits_have_are_looked_for_once(root: Path) -> None:
    described = {**datasets.coco_format_dataset(root, LAYOUT), "val_img": LAYOUT["train_img"]}
    note = shared_images(described)
    assert note is not None and note.endswith(
        "4 of 4 images are also training images; AP is measured on images trained on"
    )
    with mock.patch.object(annotations.coco_format, "find_shared_images") as find:
        assert shared_images(described) == note and not find.called
    assert shared_images({**described, **LAYOUT}) is None
    (root / LAYOUT["val_ann"]).write_text("[]")
    assert shared_images(described) is None  # a launch says what is wrong

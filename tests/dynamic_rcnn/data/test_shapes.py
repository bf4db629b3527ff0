"""The shapes data set: the same content everywhere, exact boxes, complete or absent, checked on every use."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle

from dynamic_rcnn.data import shapes
from dynamic_rcnn.data.annotations import read_classes
from dynamic_rcnn.data.coco_format import validate
from dynamic_rcnn.data.outlines import CATEGORY_IDS, OUTLINES, ROTATIONS, outline_mask
from dynamic_rcnn.data.scene import MAX_OBJECTS, draw_scene
from dynamic_rcnn.data.shapes import CLASSES, DrawnShapes, ShapesRecipe, ensure_shapes
from dynamic_rcnn.errors import UserError

TRAIN, VAL = "annotations/train.json", "annotations/val.json"
SMALL = ShapesRecipe(seed=3, train_images=6, val_images=4, image_size=96)
SMALL_FINGERPRINT = "87111c5eed24c26515bb7b38fdbbd4bf87a163832ee9531833ae2d0c57941b66"


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> DrawnShapes:
    return ensure_shapes(tmp_path_factory.mktemp("default"), ShapesRecipe())


@pytest.fixture
def small(tmp_path: Path) -> DrawnShapes:
    return ensure_shapes(tmp_path, SMALL)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def annotations_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


def test_content_is_the_same_everywhere(small: DrawnShapes) -> None:
    assert small.fingerprint == SMALL_FINGERPRINT


def test_default_content_is_the_same_everywhere(default: DrawnShapes) -> None:
    assert shapes.KNOWN_FINGERPRINTS[ShapesRecipe().hash] == default.fingerprint


def test_default_is_large_enough_to_measure_every_class_and_size(default: DrawnShapes) -> None:
    train, val = annotations_of(default.root / TRAIN), annotations_of(default.root / VAL)
    assert (len(train["images"]), len(val["images"])) == (2000, 300)
    for content in (train, val):
        areas = np.array([item["area"] for item in content["annotations"]])
        assert 0.35 < np.mean(areas < 32**2) < 0.75  # COCO's small
        assert np.all(areas < 96**2)  # the others are medium
        per_class = np.bincount([item["category_id"] for item in content["annotations"]])
        assert set(np.flatnonzero(per_class)) == set(CATEGORY_IDS.values())
        assert per_class[per_class > 0].min() > 0.13 * len(areas)
        per_image = np.bincount([item["image_id"] for item in content["annotations"]])[1:]
        assert set(per_image) == set(range(1, MAX_OBJECTS + 1))


def test_splits_have_no_image_in_common(default: DrawnShapes) -> None:
    first = [cv2.imread(str(folder / "000000.png")) for folder in (default.root / "train", default.root / "val")]
    assert not np.array_equal(*first)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_boxes_areas_and_masks_agree(small: DrawnShapes) -> None:
    content = annotations_of(small.root / TRAIN)
    covered = {image["id"]: np.zeros((96, 96), dtype=int) for image in content["images"]}
    for item in content["annotations"]:
        mask = rle.decode(rle.frPyObjects(item["segmentation"], 96, 96))
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        assert item["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
        assert item["area"] == mask.sum()
        assert item["iscrowd"] == 0
        covered[item["image_id"]] += mask
    assert all(count.max() == 1 for count in covered.values())  # a pixel shows one object


def test_layout_is_valid_coco(small: DrawnShapes) -> None:
    validate(small.root, TRAIN, VAL, "train", "val")
    assert read_classes(small.root / VAL) == CLASSES
    for name, images in ((TRAIN, 6), (VAL, 4)):
        content = annotations_of(small.root / name)
        assert len(content["images"]) == images
        assert {item["name"]: item["id"] for item in content["categories"]} == CATEGORY_IDS
    image = cv2.imread(str(small.root / "val" / "000003.png"))
    assert image is not None
    assert image.shape == (96, 96, 3)


def test_an_image_does_not_depend_on_the_number_of_images(small: DrawnShapes, tmp_path: Path) -> None:
    more = ensure_shapes(tmp_path, ShapesRecipe(seed=3, train_images=7, val_images=4, image_size=96))
    for name in ("train/000005.png", "val/000003.png"):
        assert np.array_equal(cv2.imread(str(small.root / name)), cv2.imread(str(more.root / name)))
    assert more.fingerprint != small.fingerprint


@pytest.mark.parametrize("size", [64, 160, 256])
def test_objects_are_mostly_visible_and_not_merged(size: int) -> None:
    for seed in range(15):
        image, objects = draw_scene(np.random.RandomState(seed), size)
        assert image.shape == (size, size, 3)
        assert 1 <= len(objects) <= MAX_OBJECTS
        assert np.sum([item.visible for item in objects], axis=0).max() == 1
        assert min(item.visible.sum() for item in objects) >= 25


def test_outlines_by_hand() -> None:
    upright = ROTATIONS[0]
    assert outline_mask("rectangle", 8, 4, upright).tolist() == [[True] * 8] * 4
    triangle = outline_mask("triangle", 8, 8, upright)  # no pixel centre lies in its first row
    assert triangle.sum(axis=1).tolist() == [2, 2, 4, 4, 6, 6, 8]
    cross, ring = outline_mask("cross", 16, 16, upright), outline_mask("ring", 16, 16, upright)
    assert not cross[0, 0]
    assert cross[8].all()
    assert not ring[8, 8]
    assert ring[8, 0]
    for name in OUTLINES:
        mask = outline_mask(name, 40, 30, (40, 9, 41))
        edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
        assert all(edge.any() for edge in edges), name
        mirrored = outline_mask(name, 40, 30, (40, -9, 41))[:, ::-1]
        assert np.array_equal(mask, mirrored), name
    for cosine, sine, hypotenuse in ROTATIONS:
        assert cosine**2 + sine**2 == hypotenuse**2


def test_second_use_draws_nothing(small: DrawnShapes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "draw_files", None)
    assert ensure_shapes(small.root.parent, SMALL) == small


def test_changed_pixel_is_found(small: DrawnShapes) -> None:
    path = small.root / "val" / "000001.png"
    image = cv2.imread(str(path))
    assert image is not None
    cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])  # other bytes, same pixels
    assert ensure_shapes(small.root.parent, SMALL) == small
    image[5, 5, 0] ^= 1
    cv2.imwrite(str(path), image)
    with pytest.raises(UserError) as caught:
        ensure_shapes(small.root.parent, SMALL)
    assert str(caught.value).startswith(f"{small.root}: content is not what was drawn (now ")
    assert str(caught.value).endswith(f"delete the folder {small.root} and it will be drawn again")


def test_changed_annotation_is_found(small: DrawnShapes) -> None:
    content = annotations_of(small.root / TRAIN)
    (small.root / TRAIN).write_text(json.dumps(content, indent=2))  # other bytes, same content
    assert ensure_shapes(small.root.parent, SMALL) == small
    content["annotations"][0]["bbox"][0] += 1
    (small.root / TRAIN).write_text(json.dumps(content))
    with pytest.raises(UserError, match="content is not what was drawn"):
        ensure_shapes(small.root.parent, SMALL)


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("train/000002.png", Path.unlink, "image is missing or cannot be read"),
        ("train/000002.png", lambda path: path.write_bytes(b""), "image is missing or cannot be read"),
        ("train/000002.png", lambda path: os.truncate(path, 40), "image is missing or cannot be read"),
        ("annotations/val.json", Path.unlink, "file is missing or not JSON"),
        ("annotations/val.json", lambda path: path.write_text("[1]"), "not the annotations that were drawn"),
        ("dataset.json", Path.unlink, "file is missing or not JSON"),
    ],
)
def test_damage_is_named_with_the_way_out(small: DrawnShapes, name: str, damage: Any, expected: str) -> None:
    damage(small.root / name)
    with pytest.raises(UserError) as caught:
        ensure_shapes(small.root.parent, SMALL)
    way_out = f"delete the folder {small.root} and it will be drawn again"
    assert str(caught.value) == f"{small.root / name}: {expected}; {way_out}"
    shutil.rmtree(small.root)
    assert ensure_shapes(small.root.parent, SMALL) == small


def test_drawing_that_differs_from_the_known_one_is_refused(
    small: DrawnShapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(shapes.KNOWN_FINGERPRINTS, SMALL.hash, "0123456789abcdef")
    with pytest.raises(UserError, match=rf"fingerprint is {small.fingerprint[:10]}, this recipe's is 0123456789;"):
        ensure_shapes(small.root.parent, SMALL)


def test_two_processes_at_once_use_one_drawing(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.starmap(ensure_shapes, [(tmp_path, SMALL)] * 2, chunksize=1)
    assert {paths.fingerprint for paths in found} == {SMALL_FINGERPRINT}
    assert names_in(tmp_path) == [SMALL.hash]


def test_the_loser_of_the_race_uses_the_winners_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process finishes while this one is drawing."""
    winner = ensure_shapes(tmp_path / "elsewhere", SMALL)
    draw = shapes.draw_files

    def draw_slowly(*arguments: Any) -> None:
        draw(*arguments)
        shutil.copytree(winner.root, tmp_path / SMALL.hash)
        (tmp_path / SMALL.hash / "of the winner").touch()

    monkeypatch.setattr(shapes, "draw_files", draw_slowly)
    found = ensure_shapes(tmp_path, SMALL)
    assert (found.root / "of the winner").exists()
    assert names_in(tmp_path) == sorted([SMALL.hash, "elsewhere"])


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_drawing_leaves_no_data_set(tmp_path: Path, signal_number: int) -> None:
    code = (
        "import pathlib, sys; from dynamic_rcnn.data.shapes import *;"
        "ensure_shapes(pathlib.Path(sys.argv[1]), ShapesRecipe(train_images=5000, val_images=1))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".*/train/000003.png")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal_number)
    assert process.wait(timeout=600) != 0
    assert not [name for name in names_in(tmp_path) if not name.startswith(".")]
    if signal_number == signal.SIGINT:
        assert names_in(tmp_path) == []


def test_abandoned_drawings_are_removed_after_a_day(tmp_path: Path) -> None:
    old, new = (tmp_path / f".{SMALL.hash}-{name}" for name in ("old", "new"))
    for folder, hours in ((old, 25), (new, 23)):
        (folder / "train").mkdir(parents=True)
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    ensure_shapes(tmp_path, SMALL)
    assert names_in(tmp_path) == sorted([new.name, SMALL.hash])


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        ensure_shapes(tmp_path / "file", SMALL)
    folder = tmp_path / "file" / SMALL.hash
    assert str(caught.value) == f"{folder}: cannot draw the shapes data set: File exists"


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot draw the shapes data set: No space left on device"):
        ensure_shapes(tmp_path, SMALL)
    assert names_in(tmp_path) == []


def test_recipe_survives_its_dictionary_and_has_its_own_hash() -> None:
    assert ShapesRecipe.from_dict(SMALL.model_dump()) == SMALL
    assert ShapesRecipe.from_dict({"train_images": 64}) == ShapesRecipe(train_images=64)
    changed = [{"seed": 4}, {"train_images": 7}, {"val_images": 5}, {"image_size": 128}]
    recipes = [SMALL, *(ShapesRecipe.from_dict(SMALL.model_dump() | change) for change in changed)]
    assert len({recipe.hash for recipe in recipes}) == 5


def test_unknown_recipe_fields_are_all_named() -> None:
    with pytest.raises(UserError) as caught:
        ShapesRecipe.from_dict({"train": 5, "seed": 1, "size": 160})
    valid = "valid: image_size, seed, test_images, train_images, val_images, version"
    assert str(caught.value) == (
        f"unknown setting 'train' in dataset.recipe; {valid}; unknown setting 'size' in dataset.recipe; {valid}"
    )


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("train_images", 0, "an integer from 1 to 1000000"),
        ("val_images", 1.5, "an integer from 1 to 1000000"),
        ("seed", "zero", "an integer from 0 to 4294967295"),
        ("seed", True, "an integer from 0 to 4294967295"),
        ("image_size", 32, "an integer from 64 to 1024"),
        ("version", 99, "1, the drawing of this code"),
    ],
)
def test_recipe_values(field: str, value: Any, rule: str) -> None:
    with pytest.raises(UserError) as caught:
        ShapesRecipe.from_dict({field: value})
    assert str(caught.value) == f"dataset.recipe.{field}={value}: must be {rule}"


def test_imports_neither_torch_nor_opencv() -> None:
    code = (
        "import sys, dynamic_rcnn.data.shapes, dynamic_rcnn.data.coco_format;"
        "sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

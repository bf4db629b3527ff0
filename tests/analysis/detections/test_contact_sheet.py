"""The contact sheet: its bytes are reproducible, and depend on boxes and pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.detections.contact_sheet import (
    DrawnBoxes,
    detections_on,
    draw_boxes,
    draw_contact_sheet,
    objects_on,
    to_png,
)
from analysis.detections.matching import match
from analysis.detections.pair import ArmPair, displayable
from analysis.rendering.panels import drawable
from dynamic_rcnn.data.pixels import read_pixels
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis.drawn_detections import Row, coco_of, detection
from tests.dynamic_rcnn.data.images import HEIGHT, TURNED_RIGHT, WIDTH, encoded, sixteen_bits

NAMES = ("cat", "dog")
COCO = coco_of([3, 9], [{"image_id": 9, "category_id": 5, "bbox": [10.0, 20.0, 30.0, 15.0]}], categories=(2, 5))
OBJECTS = read_objects(COCO)
FOUND = [
    *(detection(9, 2, [5, 5, 20, 20], 0.6), detection(9, 5, [11, 20, 30, 15], 0.8)),
    *(detection(9, 5, [1, 1, 9, 9], 0.4), detection(3, 2, [0, 0, 9, 9], 0.9)),
]


def sheet(folder: Path, found: list[Row] = FOUND, shade: int = 0) -> bytes:
    """The sheet that compares `found` with no detections. One of the images is grey."""
    pixels = np.random.default_rng(0).integers(shade, 256, (48, 64, 3)).astype(np.uint8)
    for image, shown in ((3, pixels), (9, pixels[..., 0])):
        COCO.imgs[image]["file_name"] = f"{image}.png"
        Image.fromarray(shown).save(folder / f"{image}.png")
    detections = {arm: [read_detections(OBJECTS, rows)] for arm, rows in (("both", found), ("baseline", []))}
    matches = {arm: [match(OBJECTS, each) for each in own] for arm, own in detections.items()}
    facts, png = draw_contact_sheet(ArmPair("both", "baseline", COCO, OBJECTS, folder, detections, matches))
    assert {row["file"] for row in facts["images"]} == {"3.png", "9.png"}
    return png


def test_boxes_of_an_image() -> None:
    assert objects_on(OBJECTS, 1).box.tolist() == [[10, 20, 30, 15]] and not len(objects_on(OBJECTS, 0).box)
    assert objects_on(OBJECTS, 1).labels == ["class5"]
    found = detections_on(read_detections(OBJECTS, FOUND), 1, NAMES)
    assert found.labels == ["dog 0.80", "cat 0.60"]  # by score, and none below 0.5
    assert found.category.tolist() == [1, 0]
    assert found.box.tolist() == [[11, 20, 30, 15], [5, 5, 20, 20]]


def test_the_sheet_depends_on_pixels_and_boxes_alone(tmp_path: Path) -> None:
    first = sheet(tmp_path)
    assert sheet(tmp_path) == first and first.startswith(b"\x89PNG")
    assert sheet(tmp_path, shade=99) != first
    assert sheet(tmp_path, found=FOUND[1:]) != first


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded("JPEG", orientation=TURNED_RIGHT), (WIDTH, HEIGHT, 3)),
        (encoded("PNG"), (HEIGHT, WIDTH, 3)),
        (sixteen_bits(257), (HEIGHT, WIDTH, 3)),
    ],
)
def test_pixels_are_those_of_training_with_red_first(content: bytes, expected: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(content)
    pixels = read_pixels(tmp_path / "0.jpg")
    shown = displayable(pixels)
    assert shown.shape == expected and np.array_equal(shown[..., ::-1], pixels)


def test_grey_deep_and_transparent_pixels_can_be_shown() -> None:
    deep = np.full((2, 3, 4), 0x1234, np.uint16)
    assert displayable(deep).tolist() == np.full((2, 3, 3), 0x12).tolist()
    assert displayable(deep[..., 0]).shape == (2, 3) and displayable(deep[..., 0]).dtype == np.uint8


def test_a_box_is_drawn_at_its_pixels() -> None:
    """One pixel per unit: the edge of the box is drawn in its colour at its own coordinates, on a black image."""
    fig = Figure(figsize=(0.64, 0.48), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.axis("off")
    draw_boxes(ax, np.zeros((48, 64, 3), np.uint8), objects_on(OBJECTS, 1))
    picture = matplotlib.image.imread(io.BytesIO(to_png(fig)))[..., :3].sum(axis=2) > 0.5
    below = picture[30:]  # the label lies above
    assert picture[34:37, 20:30].any() and below[:, 9:12].any() and below[:, 39:42].any()
    assert not picture[22:33, 14:37].any() and not picture[38:].any()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Füchse, лисы, αλεπούδες", "Füchse, лисы, αλεπούδες"),
        ("猫 cat", "? cat"),
        ("a\nb\x00", "a b?"),
        ("$x^", "$x^"),  # not a formula
    ],
)
def test_names_in_any_script_are_drawn_or_replaced_without_warnings(name: str, shown: str) -> None:
    assert drawable(name) == shown
    fig = Figure()
    boxes = DrawnBoxes(np.array([[1.0, 1.0, 9.0, 9.0]]), np.array([0]), [name])
    draw_boxes(fig.add_axes((0, 0, 1, 1)), np.zeros((48, 64), np.uint8), boxes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_png(fig)

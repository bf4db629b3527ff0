"""The contact sheet: its bytes are reproducible, and depend on boxes and pixels."""

from __future__ import annotations

import io
from dataclasses import replace

import matplotlib.image
import numpy as np

from analysis.detections.columns import read_detections, read_objects
from analysis.detections.contact_sheet import SheetRow, contact_sheet, detections_on, draw_boxes, objects_on, to_png
from analysis.rendering.plots import plt
from tests.analysis.drawn_detections import coco_of, detection

NAMES = ("cat", "dog")
OBJECTS = read_objects(
    coco_of([3, 9], [{"image_id": 9, "category_id": 5, "bbox": [10.0, 20.0, 30.0, 15.0]}], categories=(2, 5))
)
DETECTIONS = read_detections(
    OBJECTS,
    [detection(9, 2, [5, 5, 20, 20], 0.4), detection(9, 5, [11, 20, 30, 15], 0.8), detection(3, 2, [0, 0, 9, 9], 0.9)],
)


def rows() -> list[SheetRow]:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    found = detections_on(DETECTIONS, 1, 0.3)
    columns = {"ground truth": objects_on(OBJECTS, 1), "baseline": found, "both": detections_on(DETECTIONS, 1, 0.5)}
    return [SheetRow("image 9", pixels, columns), SheetRow("grey", pixels[..., 0], columns)]


def test_boxes_of_an_image() -> None:
    assert objects_on(OBJECTS, 1).box.tolist() == [[10, 20, 30, 15]] and not len(objects_on(OBJECTS, 0).box)
    found = detections_on(DETECTIONS, 1, 0.3)
    assert found.score is not None and found.score.tolist() == [0.8, 0.4]
    assert found.category.tolist() == [1, 0]
    assert detections_on(DETECTIONS, 1, 0.5).box.tolist() == [[11, 20, 30, 15]]


def test_same_input_same_bytes() -> None:
    first, second = (to_png(contact_sheet(rows(), NAMES)) for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG")
    assert not plt.get_fignums()


def test_other_pixels_or_boxes_give_another_picture() -> None:
    first = to_png(contact_sheet(rows(), NAMES))
    assert to_png(contact_sheet([replace(rows()[0], pixels=255 - rows()[0].pixels), rows()[1]], NAMES)) != first
    fewer = {**rows()[0].columns, "baseline": detections_on(DETECTIONS, 1, 0.5)}
    assert to_png(contact_sheet([replace(rows()[0], columns=fewer), rows()[1]], NAMES)) != first


def test_a_box_is_drawn_at_its_pixels() -> None:
    """One pixel a unit: the edge of the box is drawn in its colour at its own coordinates, on a black image."""
    fig = plt.figure(figsize=(0.64, 0.48), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.axis("off")
    draw_boxes(ax, np.zeros((48, 64, 3), np.uint8), objects_on(OBJECTS, 1), NAMES)
    picture = matplotlib.image.imread(io.BytesIO(to_png(fig)))[..., :3].sum(axis=2) > 0.5
    below = picture[30:]  # the label lies above
    assert picture[34:37, 20:30].any() and below[:, 9:12].any() and below[:, 39:42].any()
    assert not picture[22:33, 14:37].any() and not picture[38:].any()

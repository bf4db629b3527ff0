"""Segmentations are checked before pycocotools sees them, as the loader and the evaluation will read them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as run_lengths

from dynamic_rcnn.data.coco_format import validate
from dynamic_rcnn.data.coco_masks import decompress
from dynamic_rcnn.errors import UserError
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, SIZES, edit_json, write_coco

TRAIN, VAL = LAYOUT["train_ann"], LAYOUT["val_ann"]
HEIGHT, WIDTH, _ = SIZES[0]
PIXELS = HEIGHT * WIDTH
RING = [1, 1, 30, 1, 30, 40]
FORMS = "it must be a list of polygons [x1, y1, x2, y2, ...] or run lengths with size and counts"
NONE = "has no segmentation, which a model with masks needs"


def mask() -> np.ndarray[Any, Any]:
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    found[10:50, 20:90] = 1
    return found


def compressed() -> dict[str, Any]:
    encoded = run_lengths.encode(mask())
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    return tmp_path


def check(root: Path, segmentation: Any, *names: str) -> list[str]:
    def change(content: Any) -> None:
        content["annotations"][0]["segmentation"] = segmentation

    for name in names:
        edit_json(root / name, change)
    return validate(root, **LAYOUT, masks=True)


@pytest.mark.parametrize(
    "segmentation",
    [
        [RING],
        [RING, [5.5, 5.25, 9, 5, 9, 9, 1e-3, 2]],
        [[-3, -2, WIDTH + 9, 1, 30, 40]],
        compressed(),
        {"size": [HEIGHT, WIDTH], "counts": [5, 20, PIXELS - 25]},
        {"size": [HEIGHT, WIDTH], "counts": [PIXELS]},
    ],
)
def test_legal_masks(root: Path, segmentation: Any) -> None:
    check(root, segmentation, TRAIN, VAL)


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (None, NONE),
        ([], NONE),
        (RING, f"segmentation is [1, 1, 30, 1, 30, 40]; {FORMS}"),
        ("PPYo1", f"segmentation is 'PPYo1'; {FORMS}"),
        ([[[1, 2], [3, 4], [5, 6]]], f"segmentation is [[[1, 2], [3, 4], [5, 6]]]; {FORMS}"),
        ([[1, 2, None, 4, 5, 6]], f"segmentation is [[1, 2, None, 4, 5, 6]]; {FORMS}"),
        ([[1, 2, "3", 4, 5, 6]], f"segmentation is [[1, 2, '3', 4, 5, 6]]; {FORMS}"),
        ([[1, 2, True, 4, 5, 6]], f"segmentation is [[1, 2, True, 4, 5, 6]]; {FORMS}"),
        ([[1, 2, float("nan"), 4, 5, 6]], "a polygon has the coordinate nan, far outside its image of 131 x 97 pixels"),
        ([[1, 2, float("inf"), 4, 5, 6]], "a polygon has the coordinate inf, far outside its image of 131 x 97 pixels"),
        ([[1, 2, 1e12, 4, 5, 6]], "a polygon has the coordinate 1e+12, far outside its image of 131 x 97 pixels"),
        ([compressed()], FORMS),
        ({"counts": [1, 2]}, f"segmentation is {{'counts': [1, 2]}}; {FORMS}"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, FORMS),
        ({"size": [WIDTH, HEIGHT], "counts": [PIXELS]}, "segmentation has size [131, 97], turned; it must be"),
        (
            {"size": [48, 65], "counts": [48 * 65]},
            "segmentation has size [48, 65]; it must be [height, width]",
        ),
        (
            {"size": [HEIGHT, WIDTH], "counts": []},
            "run lengths of the segmentation do not add up to 97 x 131 pixels",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [5, PIXELS]}, "do not add up to 97 x 131 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [PIXELS + 5, -5]}, "do not add up to 97 x 131 pixels"),
        ({**compressed(), "counts": str(compressed()["counts"].encode())}, "the run lengths of the segmentation"),
        ({**compressed(), "counts": compressed()["counts"] + "é"}, "not COCO's text"),
        ({**compressed(), "counts": compressed()["counts"][:-2]}, "the run lengths of the segmentation"),
    ],
)
@pytest.mark.parametrize("name", [TRAIN, VAL])
def test_each_malformed_mask_is_named_with_its_annotation(
    root: Path, name: str, segmentation: Any, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        check(root, segmentation, name)
    assert str(caught.value).startswith(f"{root / name}: annotation 100: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("polygon", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]])
def test_short_polygons_are_refused_where_the_evaluation_reads_them_and_counted_in_training(
    root: Path, polygon: list[int]
) -> None:
    notes = check(root, [polygon], TRAIN)
    assert "1 without a polygon of 3 points" in notes[0]
    assert "without a polygon" not in " ".join(check(root, [polygon, RING], TRAIN))
    with pytest.raises(UserError, match=rf"annotation 100: a polygon has {len(polygon)} numbers; it must have x and y"):
        check(root, [polygon], VAL)


def test_several_are_counted(root: Path) -> None:
    edit_json(root / VAL, lambda content: [item.update(segmentation="x") for item in content["annotations"]])
    with pytest.raises(UserError, match=r"; and \d more$"):
        validate(root, **LAYOUT, masks=True)


def test_models_without_masks_need_none(root: Path) -> None:
    edit_json(root / VAL, lambda content: [item.update(segmentation="x") for item in content["annotations"]])
    validate(root, **LAYOUT)


def test_a_null_coordinate_takes_no_time_and_memory(root: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError):
        check(root, [[1, 2, None, 4, 5, 6]], TRAIN)
    assert time.monotonic() - started < 10


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_compressed_run_lengths_are_read_as_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for fraction in (0.0, 0.02, 0.5, 1.0):
        drawn = np.asfortranarray((rng.random((61, 83)) < fraction).astype(np.uint8))
        lengths = decompress(run_lengths.encode(drawn)["counts"].decode())
        again = np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(drawn.shape, order="F")
        assert np.array_equal(again, drawn)

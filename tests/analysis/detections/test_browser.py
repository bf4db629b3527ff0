"""The browser of detections: its images and their order, the kind of every box by hand, bounds on sizes, escaping."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analysis.detections.browser import BOX_KINDS, MOST_BYTES, MOST_IMAGES, draw_browser, encode
from analysis.detections.contact_sheet import Pixels
from analysis.detections.matching import match
from analysis.detections.pair import ArmPair
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis.drawn_detections import Row, coco_of, detection

CAT, DOG = 2, 5
NAMES = {CAT: "猫<b>", DOG: "</script><script>window.hacked=1</script>"}
FILES = {3: "small.png", 9: "wide.png", 20: "same.png"}
SIZES = {3: (64, 48), 9: (1000, 500), 20: (64, 48)}
OBJECTS = [
    {"image_id": 3, "category_id": CAT, "bbox": [5.0, 5.0, 30.0, 20.0]},
    {"image_id": 9, "category_id": DOG, "bbox": [10.0, 10.0, 20.0, 20.0]},
    {"image_id": 9, "category_id": CAT, "bbox": [100.0, 100.0, 50.0, 50.0]},
    {"image_id": 9, "category_id": CAT, "bbox": [300.0, 100.0, 120.0, 120.0]},
    {"image_id": 9, "category_id": DOG, "bbox": [500.0, 300.0, 200.0, 100.0], "iscrowd": 1},
    {"image_id": 20, "category_id": CAT, "bbox": [5.0, 5.0, 30.0, 20.0]},
]
SAME = detection(20, CAT, [5, 5, 30, 20], 0.9)
BASELINE = [
    *(SAME, detection(9, DOG, [10, 10, 20, 20], 0.9)),
    detection(9, CAT, [120, 100, 50, 50], 0.8),  # IoU 3/7
    detection(9, CAT, [700, 10, 40, 40], 0.7),
    detection(9, DOG, [510, 310, 20, 20], 0.6),  # in the crowd
    detection(9, CAT, [300, 100, 120, 120], 0.4),  # below the score that is shown: the object is missed
]
BOTH = [
    *(SAME, detection(3, CAT, [5, 5, 30, 20], 0.9), detection(9, DOG, [10, 10, 20, 20], 0.9)),
    detection(9, DOG, [10, 10, 20, 17], 0.8),  # IoU 0.85
    detection(9, DOG, [100, 100, 50, 50], 0.7),
    detection(9, CAT, [300, 100, 120, 120], 0.6),
]


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def draw(folder: Path, baseline: Sequence[Row] = BASELINE, both: Sequence[Row] = BOTH) -> tuple[int, str]:
    """The number of images on the page, and the page, of the case above with two equal seeds."""
    for number, file in FILES.items():
        Image.fromarray(noise(*SIZES[number])).save(folder / file)
    return page_of(folder, OBJECTS, FILES, baseline, both)


def page_of(
    folder: Path, objects: Sequence[Row], files: Mapping[int, str], baseline: Sequence[Row], both: Sequence[Row]
) -> tuple[int, str]:
    coco = coco_of(list(files), objects, (CAT, DOG))
    for number, file in files.items():
        coco.imgs[number]["file_name"] = file
    for number, name in NAMES.items():
        coco.cats[number]["name"] = name
    read = read_objects(coco)
    detections = {arm: [read_detections(read, rows)] * 2 for arm, rows in (("baseline", baseline), ("both", both))}
    matches = {arm: [match(read, each) for each in own] for arm, own in detections.items()}
    runs = {arm: [f"mine/{arm}/seed0", f"mine/{arm}/seed1"] for arm in detections}
    colours = {"baseline": "#000000", "both": "#D55E00"}
    pair = ArmPair("both", "baseline", coco, read, folder, detections, matches)
    count, page = draw_browser(pair, "Detections <i>", runs, colours)
    return count, page.decode()


def data_of(page: str) -> dict[str, Any]:
    return dict(json.loads(page.split('id="data">')[1].split("</script>")[0]))


def kinds(boxes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [[BOX_KINDS[kind] for kind in box["kind"]] for box in boxes]


def test_images_are_those_that_differ_and_the_largest_difference_is_first(tmp_path: Path) -> None:
    """Image 3: F1 is 0 and 1. Image 9: 2 / (3 + 3), for one of three detections is ignored, and 4 / (4 + 3)."""
    count, page = draw(tmp_path)
    images = data_of(page)["images"]
    assert count == 2 and [image["file"] for image in images] == ["small.png", "wide.png"]
    assert [image["f1"] for image in images] == [[0, 1], [round(1 / 3, 4), round(4 / 7, 4)]]
    assert [(image["width"], image["height"]) for image in images] == [(64, 48), (1000, 500)]
    assert "2 of 3 evaluated images" in page
    assert "<code>mine/baseline/seed0</code> and <code>mine/both/seed0</code>" in page and "seed1" not in page


def test_the_kind_of_each_box_at_each_threshold(tmp_path: Path) -> None:
    small, wide = data_of(draw(tmp_path)[1])["images"]
    baseline, both = wide["found"]
    assert kinds(baseline) == [["correct"] * 3, ["localisation"] * 3, ["background"] * 3, ["ignored"] * 3]
    assert kinds(both) == [
        ["correct"] * 3,
        ["duplicate", "duplicate", "localisation"],
        ["classification"] * 3,
        ["correct"] * 3,
    ]
    assert [box["score"] for box in both] == [0.9, 0.8, 0.7, 0.6]
    by_arm = [[BOX_KINDS[at_iou[0]] for at_iou in box["kind"]] for box in wide["objects"]]
    assert by_arm == [["correct", "correct"], ["correct", "correct"], ["missed", "correct"], ["ignored", "ignored"]]
    assert (small["found"][0], kinds(small["found"][1])) == ([], [["correct"] * 3])
    assert [[BOX_KINDS[kind] for kind in arm] for arm in small["objects"][0]["kind"]] == [
        ["missed"] * 3,
        ["correct"] * 3,
    ]


def test_boxes_have_their_size_and_category(tmp_path: Path) -> None:
    """Sizes 0, 1 and 2 are small, medium and large; 32 x 32 is medium, as 96 x 96 is large."""
    wide = data_of(draw(tmp_path)[1])["images"][1]
    assert [box["size"] for box in wide["objects"]] == [0, 1, 2, 2]
    assert [box["class"] for box in wide["objects"]] == [1, 0, 0, 1]
    assert wide["objects"][1]["box"] == [100, 100, 50, 50]
    squares = [detection(3, CAT, [5, 5, side, side], 0.9) for side in (31.9, 32, 95.9, 96)]
    small = data_of(draw(tmp_path, BASELINE, [*BOTH, *squares])[1])["images"]
    found = next(image for image in small if image["id"] == 3)["found"][1]
    assert {tuple(box["box"][2:]): box["size"] for box in found if box["box"][2] == box["box"][3]} == {
        **{(31.9, 31.9): 0, (32, 32): 1},
        **{(95.9, 95.9): 1, (96, 96): 2},
    }


def test_text_of_the_data_set_is_escaped(tmp_path: Path) -> None:
    page = draw(tmp_path)[1]
    assert "<title>Detections &lt;i&gt;</title>" in page and "<i>" not in page
    assert "猫&lt;b&gt;</option>" in page and "<b>" not in page
    assert page.count("</script>") == 2 and "<script>window" not in page
    assert data_of(page)["names"] == {"0": NAMES[CAT], "1": NAMES[DOG]}


def test_there_are_at_most_40_images_and_5_mb(tmp_path: Path) -> None:
    Image.fromarray(noise(700, 500)).save(tmp_path / "noise.jpg", quality=95)
    files = dict.fromkeys(range(1, MOST_IMAGES + 3), "noise.jpg")
    objects = [{"image_id": number, "category_id": CAT, "bbox": [5.0, 5.0, 300.0, 200.0]} for number in files]
    found = [detection(number, CAT, [5, 5, 300, 200], 0.9) for number in files]
    count, page = page_of(tmp_path, objects, files, [], found)
    images = data_of(page)["images"]
    assert count == MOST_IMAGES and [image["id"] for image in images] == list(range(1, MOST_IMAGES + 1))
    assert len(page.encode()) <= 5_000_000
    assert max(decoded(images[0]["source"]).size) <= 640 and images[0]["width"] == 700


def test_arms_that_do_not_differ_have_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="F1 of all images is the same for baseline and both"):
        draw(tmp_path, BOTH, BOTH)


def test_an_image_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"small\.png cannot be read: No such file"):
        page_of(tmp_path, OBJECTS, FILES, BASELINE, BOTH)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


@pytest.mark.parametrize(
    ("pixels", "most", "kind", "size"),
    [
        (np.full((30, 40, 3), 7, np.uint8), MOST_BYTES, "PNG", (40, 30)),  # not enlarged
        (np.full((30, 40), 7, np.uint8), MOST_BYTES, "PNG", (40, 30)),  # grey
        (noise(200, 100), MOST_BYTES, "JPEG", (200, 100)),
        (noise(1000, 100), MOST_BYTES, "JPEG", (640, 64)),
        (noise(300, 400), 35_000, "JPEG", (240, 320)),
    ],
)
def test_an_image_is_as_large_as_fits(pixels: Pixels, most: int, kind: str, size: tuple[int, int]) -> None:
    uri = encode(pixels, most)
    assert uri is not None and len(uri) <= most
    assert (decoded(uri).format, decoded(uri).size) == (kind, size)


def test_an_image_that_never_fits_is_left_out() -> None:
    assert encode(noise(200, 200), 100) is None

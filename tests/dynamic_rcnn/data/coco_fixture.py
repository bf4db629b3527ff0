"""A small data set in COCO format with everything that is legal but easily forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LAYOUT = {
    "train_ann": "ann/train.json",
    "val_ann": "ann/val.json",
    "train_img": "img/train",
    "val_img": "img/val",
}
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 90, "name": "bird"}]
# (height, width, channels): odd sizes, upright and broad, one grey image
SIZES = [(97, 131, 3), (64, 64, 1), (120, 75, 3), (101, 100, 3), (80, 96, 3), (71, 113, 3)]


def write_coco(root: Path, train_images: int = 6, val_images: int = 4, seed: int = 0) -> dict[str, str]:
    """Write the data set into `root`; returns its four paths relative to `root` (LAYOUT).

    In each split: category ids 3, 7 and 90; image ids with gaps; the second image grey; the third without
    a box; the fourth with a crowd box, run-length encoded, besides its box; a box without width in the first.
    """
    rng = np.random.RandomState(seed)
    for split, count in (("train", train_images), ("val", val_images)):
        folder = root / LAYOUT[f"{split}_img"]
        folder.mkdir(parents=True)
        (root / LAYOUT[f"{split}_ann"]).parent.mkdir(parents=True, exist_ok=True)
        content = _split(rng, folder, count)
        (root / LAYOUT[f"{split}_ann"]).write_text(json.dumps(content), encoding="utf-8")
    return dict(LAYOUT)


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Apply `change` to the content of a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _split(rng: np.random.RandomState, folder: Path, count: int) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        height, width, channels = SIZES[index % len(SIZES)]
        image = rng.randint(0, 256, (height, width, channels)).astype(np.uint8)
        boxes = [] if index == 2 else _boxes(rng, height, width)
        for x, y, w, h in boxes:
            cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), [int(v) for v in rng.randint(0, 256, 3)], -1)
        assert cv2.imwrite(str(folder / f"{index}.png"), image)
        image_id = 10 + 3 * index
        images.append({"id": image_id, "file_name": f"{index}.png", "height": height, "width": width})
        for box in boxes:
            annotations.append(_annotation(len(annotations), image_id, box, int(rng.randint(3))))
        if index == 0:
            annotations.append(_annotation(len(annotations), image_id, (5, 5, 0, 9), 0))
        if index == 3:
            annotations.append(_crowd(len(annotations), image_id, height, width))
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def _boxes(rng: np.random.RandomState, height: int, width: int) -> list[tuple[int, int, int, int]]:
    boxes = []
    for _ in range(int(rng.randint(1, 4))):
        w, h = int(rng.randint(12, 40)), int(rng.randint(12, 40))
        boxes.append((int(rng.randint(0, width - w)), int(rng.randint(0, height - h)), w, h))
    return boxes


def _annotation(index: int, image_id: int, box: tuple[int, int, int, int], category: int) -> dict[str, Any]:
    x, y, w, h = box
    return {
        "id": 100 + 2 * index,
        "image_id": image_id,
        "category_id": CATEGORIES[category]["id"],
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def _crowd(index: int, image_id: int, height: int, width: int) -> dict[str, Any]:
    """A crowd over the left ten columns of the image."""
    item = _annotation(index, image_id, (0, 0, 10, height), 1)
    item["iscrowd"] = 1
    item["segmentation"] = {"counts": [0, 10 * height, (width - 10) * height], "size": [height, width]}
    return item

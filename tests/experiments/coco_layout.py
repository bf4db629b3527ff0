"""A few small images in the exact layout of COCO 2017: folders, file names, 80 classes with gaps in their ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CATEGORY_IDS = [number for number in range(1, 91) if number not in GAPS]
ANNOTATIONS = "annotations/instances_{}2017.json"


def write_coco_2017(root: Path, train_images: int = 12, val_images: int = 4) -> None:
    """Write the data set. The last training image has no box, and another one is too small to train on."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", train_images), ("val", val_images)):
        rng = np.random.RandomState(count)
        folder = root / f"{split}2017"
        folder.mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(count):
            width, height = (30, 60) if split == "train" and number == 1 else (96, 80)
            name = f"{1000 * number + 139:012d}.jpg"
            pixels = rng.randint(0, 256, (height, width, 3)).astype(np.uint8)
            assert cv2.imwrite(str(folder / name), pixels)
            images.append({"id": 1000 * number + 139, "file_name": name, "width": width, "height": height})
            empty = split == "train" and number == count - 1
            for _ in range(0 if empty else 3):
                annotations.append(_annotation(rng, len(annotations) + 1, images[-1]))
        categories = [{"id": number, "name": f"class {number}", "supercategory": "x"} for number in CATEGORY_IDS]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / ANNOTATIONS.format(split)).write_text(json.dumps(content))


def _annotation(rng: np.random.RandomState, number: int, image: dict[str, Any]) -> dict[str, Any]:
    w, h = (int(rng.randint(8, image[side] // 2)) for side in ("width", "height"))
    x, y = int(rng.randint(0, image["width"] - w)), int(rng.randint(0, image["height"] - h))
    category = CATEGORY_IDS[rng.randint(len(CATEGORY_IDS))]
    box = {"bbox": [x, y, w, h], "area": w * h, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
    return {"id": number, "image_id": image["id"], "category_id": category, "iscrowd": 0, **box}

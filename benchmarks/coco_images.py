"""Draws images in COCO's layout with random content, for benchmarks on machines without COCO.

The number of boxes per image, their sizes and the size of the files are about those of COCO; nothing can be learned.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CATEGORIES = 80
BOXES_PER_IMAGE = 7  # of COCO's train2017
PATHS = {
    **{"train_ann": "annotations/instances_train2017.json", "val_ann": "annotations/instances_val2017.json"},
    **{"train_img": "train2017", "val_img": "val2017"},
}


def draw(root: Path, train: int, val: int, width: int, height: int, seed: int) -> dict[str, str]:
    """Draw `train` and `val` images of `width` x `height` pixels. Returns the paths of the data set."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        folder = root / PATHS[f"{split}_img"]
        folder.mkdir(parents=True)
        images, annotations = [], []
        for number in range(1, count + 1):
            name = f"{number:012d}.jpg"
            cv2.imwrite(str(folder / name), _pixels(rng, width, height))
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            annotations += [
                _annotation(rng, number, width, height) for _ in range(1 + rng.poisson(BOXES_PER_IMAGE - 1))
            ]
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
        categories = [{"id": number, "name": f"class {number}"} for number in range(1, CATEGORIES + 1)]
        path = root / PATHS[f"{split}_ann"]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return dict(PATHS)


def _pixels(rng: np.random.Generator, width: int, height: int) -> Any:
    """Blurred blocks with a little noise: a JPEG file of about the size of a photograph."""
    blocks = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    image = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def _annotation(rng: np.random.Generator, image: int, width: int, height: int) -> dict[str, Any]:
    """A box with a side from 1/20 of the image's to all of it, small ones more often."""
    w, h = (float(side * np.exp(rng.uniform(np.log(0.05), 0))) for side in (width, height))
    x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
    category = int(rng.integers(1, CATEGORIES + 1))
    return {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}

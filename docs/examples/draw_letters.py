"""Draw a small data set in COCO format: letters on colored backgrounds, 240 images to train on and 80 to evaluate.

    python docs/examples/draw_letters.py FOLDER

The letters are those of the DejaVu fonts in matplotlib, whose free license is the file LICENSE_DEJAVU beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SPLITS = {"train": 240, "val": 80}  # split -> number of images
SIZE = 160  # pixels
LETTERS = "AGRX"
FONTS = ("DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
FOLDER_OF_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
Rng = np.random.Generator


def draw_background(rng: Rng) -> Image.Image:
    """A smooth mixture of dark colors with noise."""
    colors = Image.fromarray(rng.integers(0, 130, (4, 4, 3), dtype=np.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC
    )
    noise = rng.normal(0, 12, (SIZE, SIZE, 3))
    return Image.fromarray((np.asarray(colors) + noise).clip(0, 255).astype(np.uint8))


def draw_letter(letter: str, rng: Rng) -> Image.Image:
    """The mask of a letter in a random font and size, turned by up to 30 degrees and cut to its pixels."""
    size = int(rng.integers(24, 64))
    font = ImageFont.truetype(str(FOLDER_OF_FONTS / f"{rng.choice(FONTS)}.ttf"), size)
    mask = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(mask).text((size, size), letter, fill=255, font=font, anchor="mm")
    mask = mask.rotate(float(rng.uniform(-30, 30)), Image.Resampling.BICUBIC).point(lambda value: 255 * (value > 127))
    return mask.crop(mask.getbbox())


def draw_image(rng: Rng) -> tuple[Image.Image, list[dict[str, Any]]]:
    """An image with two to five letters that do not overlap, and their categories and boxes (x, y, width, height)."""
    image, objects = draw_background(rng), list[dict[str, Any]]()
    taken = np.zeros((SIZE, SIZE), dtype=bool)
    for _ in range(int(rng.integers(2, 6))):
        category = int(rng.integers(len(LETTERS)))
        mask = draw_letter(LETTERS[category], rng)
        width, height = mask.size
        x, y = int(rng.integers(SIZE - width)), int(rng.integers(SIZE - height))
        if taken[y : y + height, x : x + width].any():
            continue
        taken[y : y + height, x : x + width] = True
        color = tuple(int(value) for value in rng.integers(110, 256, 3))
        image.paste(color, (x, y), mask)
        objects.append({"category_id": category + 1, "bbox": [x, y, width, height], "area": width * height})
    return image, objects


def write_split(folder: Path, split: str, count: int, rng: Rng) -> None:
    """Write the images to FOLDER/split and the boxes to FOLDER/annotations/split.json."""
    for name in (split, "annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], list[dict[str, Any]]()
    for number in range(1, count + 1):
        image, objects = draw_image(rng)
        name = f"{number:04}.png"
        image.save(folder / split / name)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        for item in objects:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, **item})
    categories = [{"id": number, "name": letter} for number, letter in enumerate(LETTERS, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


def main(folder: Path) -> None:
    for seed, (split, count) in enumerate(SPLITS.items()):
        write_split(folder, split, count, np.random.default_rng(seed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

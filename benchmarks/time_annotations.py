"""Draws annotations at the size of COCO and times how they are read and checked.

    python -m benchmarks.time_annotations folder=FOLDER [images=118287] [boxes=860001] [seed=0] [part=...]

folder  where the data set is made, if it does not exist yet; takes 0.5 GB for COCO's size
images  number of training images; the validation split has a twentieth of all
boxes   number of training annotations, with polygons as long as COCO's
part    one of digest, read, check, masks; default: all, each in a process of its own

Prints the wall-clock time, the CPU time and the peak memory of each part: the digests of both files; decoding the
training annotations as pycocotools needs them; the check of both splits, without and with masks.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_rcnn import PROJECT
from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.data import annotations, coco_format
from dynamic_rcnn.errors import UserError, unknown_name

DEFAULTS = {"folder": "", "images": "118287", "boxes": "860001", "seed": "0", "part": ""}
CLASSES, POINTS, WIDTH, HEIGHT = 80, 24, 640, 480  # mean number of points of a polygon
TRAIN, VAL = "annotations/train.json", "annotations/val.json"
_CHUNK = 10_000

PARTS: dict[str, Callable[[Path], Any]] = {
    "digest": lambda root: coco_format.fingerprint(root, TRAIN, VAL),
    "read": lambda root: annotations.read_json(root / TRAIN),
    "check": lambda root: coco_format.validate(root, TRAIN, VAL, "train", "val"),
    "masks": lambda root: coco_format.validate(root, TRAIN, VAL, "train", "val", masks=True),
}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for arguments that are not valid."""
    values = parse(arguments, DEFAULTS)
    part, folder = values.pop("part"), values.pop("folder")
    if not folder:
        raise UserError("folder=: must name a folder; --help explains it")
    if part and part not in PARTS:
        raise unknown_name("part", [part], PARTS)
    size = {name: count(name, value, 0 if name == "seed" else 1) for name, value in values.items()}
    root = Path(folder)
    if not root.exists():
        draw(root, size["images"], size["boxes"], np.random.default_rng(size["seed"]))
    if part:
        time_part(part, root)
        return 0
    for name in PARTS:
        command = [sys.executable, "-m", "benchmarks.time_annotations", f"folder={root.resolve()}", f"part={name}"]
        subprocess.run(command, check=True, cwd=PROJECT)
    return 0


def time_part(part: str, root: Path) -> None:
    """Do one part and print the time that it took and the memory of this process."""
    load, started = os.getloadavg()[0], time.perf_counter()
    PARTS[part](root)
    seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu, gigabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6  # Linux counts in kB
    print(
        f"{part}: {seconds:.1f} s, {cpu:.1f} s of CPU time, {gigabytes:.2f} GB of memory at most (load {load:.1f})",
        flush=True,
    )


def draw(root: Path, images: int, boxes: int, rng: np.random.Generator) -> None:
    """Write both annotation files, and a byte for each image."""
    (root / "annotations").mkdir(parents=True)
    for path, share in ((TRAIN, 1), (VAL, 20)):
        folder = root / Path(path).stem
        folder.mkdir()
        names = [f"{Path(path).stem}{number:012}.jpg" for number in range(max(1, images // share))]
        for name in names:
            (folder / name).write_bytes(b"0")
        with (root / path).open("w", encoding="utf-8") as file:
            for text in _split(names, max(1, boxes // share), rng):
                file.write(text)


def _split(names: list[str], boxes: int, rng: np.random.Generator) -> Iterator[str]:
    """The text of an annotation file, in parts."""
    listed = [{"id": at, "file_name": name, "width": WIDTH, "height": HEIGHT} for at, name in enumerate(names)]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    yield json.dumps({"images": listed, "categories": categories})[:-1] + ', "annotations": ['
    for first in range(0, boxes, _CHUNK):
        rows = [_annotation(number, len(names), rng) for number in range(first, min(first + _CHUNK, boxes))]
        yield ("" if first == 0 else ", ") + json.dumps(rows)[1:-1]
    yield "]}"


def _annotation(number: int, images: int, rng: np.random.Generator) -> dict[str, Any]:
    left, top = rng.uniform(0, WIDTH - 60), rng.uniform(0, HEIGHT - 60)
    width, height = rng.uniform(5, WIDTH - left), rng.uniform(5, HEIGHT - top)
    outline = rng.random((int(rng.integers(3, 2 * POINTS - 2)), 2)) * (width, height) + (left, top)
    return {
        "segmentation": [np.round(outline, 2).ravel().tolist()],
        "area": round(width * height / 2, 4),
        "iscrowd": 0,
        "image_id": int(rng.integers(images)),
        "bbox": [round(value, 2) for value in (left, top, width, height)],
        "category_id": int(rng.integers(CLASSES)) + 1,
        "id": number + 1,
    }


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

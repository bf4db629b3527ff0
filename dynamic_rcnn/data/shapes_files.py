"""The files of a shapes data set: PNG images, COCO annotations, and the fingerprint of their content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from dynamic_rcnn.data.outlines import CATEGORY_IDS, Mask
from dynamic_rcnn.data.scene import draw_scene
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import canonical
from dynamic_rcnn.run.worker import start_worker

SPLITS = ("train", "val", "test")

_WORTH_PROCESSES = 500  # images
_MOST_PROCESSES = 8


def draw_files(folder: Path, seed: int, size: int, counts: Sequence[int]) -> None:
    """Draw `counts` images, `size` pixels high and wide, for the first of SPLITS, and write their annotations."""
    categories = [{"id": number, "name": name, "supercategory": "shape"} for name, number in CATEGORY_IDS.items()]
    (folder / "annotations").mkdir()
    with _mapping(sum(counts)) as mapped:
        for number, (split, count) in enumerate(zip(SPLITS, counts, strict=False)):
            (folder / split).mkdir()
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            draw = partial(_draw_image, folder / split, (seed, number), size)
            for index, objects in enumerate(mapped(draw, range(count))):
                images.append({"id": index + 1, "file_name": _name(index), "height": size, "width": size})
                for fields in objects:
                    annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **fields})
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / "annotations" / f"{split}.json").write_text(canonical(content), "utf-8")


@contextlib.contextmanager
def _mapping(count: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` over `count` images: by several processes if they save more time than they take to start."""
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    if processes == 1 or count < _WORTH_PROCESSES:
        yield map
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), start_worker)  # a fork inherits locks of other threads
    try:
        yield partial(pool.map, chunksize=20)
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_image(folder: Path, seeds: tuple[int, int], size: int, index: int) -> list[dict[str, Any]]:
    """Draw and write an image; returns the annotation fields of its objects."""
    # One generator per image, so that an image does not depend on the number of images.
    image, objects = draw_scene(RandomState([*seeds, index]), size)
    _write_png(folder / _name(index), image)
    return [{"category_id": CATEGORY_IDS[item.name], **mask_fields(item.visible)} for item in objects]


def _name(index: int) -> str:
    return f"{index:06d}.png"


def content_fingerprint(folder: Path) -> str:
    """sha256 over annotations (canonical JSON) and decoded pixels (RGB, with their size) of all splits.

    A data set without the last of SPLITS has only the others.

    Raises:
        UserError: an annotation file or an image is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        path = folder / "annotations" / f"{split}.json"
        if split == SPLITS[-1] and not path.exists():
            continue
        content = read_json(path)
        try:
            files = [folder / split / image["file_name"] for image in content["images"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not the annotations that were drawn") from error
        digest.update(canonical(content).encode())
        with ThreadPoolExecutor(max_workers=4) as pool:
            for pixels in pool.map(_pixel_digest, files):
                digest.update(pixels)
    return digest.hexdigest()


def mask_fields(mask: Mask) -> dict[str, Any]:
    """COCO's annotation fields for a mask [height, width] of the visible pixels.

    Returns:
        bbox, tight, as x, y, width, height in pixels; area; iscrowd; and segmentation as uncompressed run lengths,
        which go down the columns and start with the pixels outside.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    flat = np.concatenate(([False], mask.ravel(order="F")))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate(([0], changes, [mask.size])))
    return {
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": {"counts": counts.tolist(), "size": list(mask.shape)},
    }


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError if it is missing or invalid."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: file is missing or not JSON") from error


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image [height, width, 3], uncompressed: compressed noise takes four times as long to read."""
    import cv2  # imported here, because planning imports this module and needs no images

    _, encoded = cv2.imencode(".png", image[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
    path.write_bytes(encoded.tobytes())


def _pixel_digest(path: Path) -> bytes:
    import cv2

    image = None
    with contextlib.suppress(OSError, cv2.error):
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: image is missing or cannot be read")
    pixels = np.ascontiguousarray(image[:, :, ::-1])
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()

"""Ground truth and detections as columns, for metrics, matching, error analysis and contact sheets. Torch-free.

Boxes are (x, y, width, height) in pixels, as in COCO's files. Images and categories are positions in their sorted ids,
the order of COCOeval; within an image, rows keep the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.detections import check_finite

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """The N annotated boxes of a data set."""

    image_ids: Integers  # (images,), sorted
    category_ids: Integers  # (categories,), sorted
    names: tuple[str, ...]  # of the categories
    image: Integers  # (N,), position in image_ids
    category: Integers  # (N,), position in category_ids
    box: Floats  # (N, 4)
    area: Floats  # (N,), as annotated: of the mask where there is one
    crowd: Booleans  # (N,)


@dataclass(frozen=True)
class Detections:
    """The D detections of one run, on the images and categories of `Objects`."""

    image: Integers  # (D,)
    category: Integers  # (D,)
    box: Floats  # (D, 4)
    score: Floats  # (D,)


def read_objects(coco: COCO) -> Objects:
    """The columns of a ground truth in COCO format."""
    image_ids = np.unique(_integers(coco.getImgIds(), "annotations: an image id"))
    category_ids = np.unique(_integers(coco.getCatIds(), "annotations: a category id"))
    rows = annotation_rows(coco, image_ids)
    return Objects(
        image_ids,
        category_ids,
        tuple(str(coco.cats[number]["name"]) for number in category_ids.tolist()),
        _positions(image_ids, rows, "image_id"),
        _positions(category_ids, rows, "category_id"),
        _boxes(rows),
        _floats(rows, "area"),
        np.array([bool(row.get("iscrowd")) for row in rows], np.bool_),
    )


def annotation_rows(coco: COCO, image_ids: Integers) -> list[dict[str, Any]]:
    """The annotations in the order of `Objects`. Leaves out unknown images and categories, as COCOeval does."""
    rows = (row for number in image_ids.tolist() for row in coco.imgToAnns[number])
    return [row for row in rows if row["category_id"] in coco.cats]


def read_detections(objects: Objects, detections: Sequence[Mapping[str, Any]]) -> Detections:
    """The columns of detections in COCO's results format, in their order.

    Args:
        objects: the ground truth.
        detections: rows with image_id, category_id, bbox as (x, y, width, height) in pixels, and score.

    Raises:
        UserError: the ground truth has no such image or category, or a box or score is not finite.
    """
    box, score = _boxes(detections), _floats(detections, "score")
    if not (np.isfinite(box).all() and np.isfinite(score).all()):
        check_finite(detections)
    return Detections(
        _positions(objects.image_ids, detections, "image_id"),
        _positions(objects.category_ids, detections, "category_id"),
        box,
        score,
    )


def rows_by_image(image: Integers, images: int, *keys: NDArray[Any]) -> list[Integers]:
    """For each of `images` images its rows, in the order of the file or sorted by `keys`, the last key first."""
    order = np.lexsort((*keys, image))
    return np.split(order, np.searchsorted(image[order], np.arange(1, images)))


def _boxes(rows: Sequence[Mapping[str, Any]]) -> Floats:
    numbers = chain.from_iterable(map(itemgetter("bbox"), rows))
    return np.fromiter(numbers, np.float64, 4 * len(rows)).reshape(-1, 4)


def _floats(rows: Sequence[Mapping[str, Any]], field: str) -> Floats:
    return np.fromiter(map(itemgetter(field), rows), np.float64, len(rows))


def _integers(values: Iterable[int], what: str) -> Integers:
    try:
        return np.fromiter(values, np.int64)
    except OverflowError:
        raise UserError(f"{what} does not fit into 64 bits; renumber the ids") from None


def _positions(known: Integers, rows: Sequence[Mapping[str, Any]], field: str) -> Integers:
    values = _integers(map(itemgetter(field), rows), f"detections: {field}")
    positions = np.searchsorted(known, values).astype(np.int64)
    unknown = np.unique(values[(positions == len(known)) | (known[np.minimum(positions, len(known) - 1)] != values)])
    if unknown.size:
        raise UserError(
            f"detections: {field} {unknown[0]} is not in the annotations ({unknown.size} such values); "
            "they belong to another data set"
        )
    return positions

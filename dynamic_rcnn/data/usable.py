"""Which boxes a run will use: training drops boxes by mmdet's rules, and the evaluation cannot match some.

The rules are those of mmdet 3.3.0, `CocoDataset.parse_data_info` and `filter_data`, of its `LoadAnnotations` for masks,
and of pycocotools' COCOeval.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dynamic_rcnn.data.coco_checks import Boxes

_MANY = 0.05  # fraction of dropped boxes above which they are reported
_NEARLY_ALL = 0.95  # fraction of the boxes that must look like corners, or normalised
_LEAST_BEYOND = 0.3  # fraction of the boxes that must reach beyond their image to count as corners
_FEWEST = 5  # smallest number of boxes from which corners are recognised
_EMPTY = "of width or height 0"

Reasons = dict[str, NDArray[np.bool_]]  # reason -> which boxes are not used for it


def training_reasons(boxes: Boxes, min_size: float, maskless: NDArray[np.bool_] | None = None) -> Reasons:
    """Why training does not use boxes, in mmdet's order; a box has the first reason that applies.

    Args:
        boxes: the boxes of the training split.
        min_size: `filter_cfg.min_size`, the smallest shorter side of an image that is used.
        maskless: which boxes have no polygon that training uses; None for models without masks.
    """
    small = _shorter_side(boxes) < 1
    reasons = {
        "marked ignore": boxes.ignore,
        _EMPTY: _empty(boxes),
        "outside their image": ~_inside(boxes),
        "of area 0": boxes.area <= 0,
        "smaller than 1 pixel": small,
        "without a polygon of 3 points": np.zeros_like(small) if maskless is None else maskless,
        f"in images smaller than {min_size:g} pixels": np.minimum(boxes.width, boxes.height) < min_size,
        "crowds": boxes.crowd,
    }
    return _first_reasons(reasons)


def evaluation_reasons(boxes: Boxes) -> Reasons:
    """Why the evaluation does not use boxes: no detection can match them, or they are crowds."""
    return _first_reasons({_EMPTY: _empty(boxes), "outside their image": ~_inside(boxes), "crowds": boxes.crowd})


def unusable_fault(boxes: Boxes, reasons: Reasons, use: str) -> str | None:
    """Why no box can be used; None if some can. use: the purpose, such as "train on"."""
    if _are_corners(boxes):
        return "the boxes look like corners [x1, y1, x2, y2]; bbox must be [x, y, width, height]"
    if sum(map(np.count_nonzero, reasons.values())) < len(boxes.ids):
        return None
    if _are_normalised(boxes):
        return "the boxes look normalised (all numbers are from 0 to 1); bbox must be in pixels"
    counts = f"{len(boxes.ids):,} boxes: {_counts(reasons)}" if boxes.ids else "there is none"
    return f"no box is left to {use} ({counts})"


def dropped_note(boxes: Boxes, reasons: Reasons, use: str) -> str | None:
    """How many boxes are not used and why; None if few. Crowds, which have a use of their own, do not count."""
    dropped = {reason: which for reason, which in reasons.items() if reason != "crowds"}
    count = sum(int(np.count_nonzero(which)) for which in dropped.values())
    if count <= _MANY * len(boxes.ids):
        return None
    return f"not used to {use}: {count:,} of {len(boxes.ids):,} boxes ({_counts(dropped)})"


def _counts(reasons: Mapping[str, NDArray[np.bool_]]) -> str:
    return ", ".join(f"{np.count_nonzero(which):,} {reason}" for reason, which in reasons.items() if which.any())


def _first_reasons(reasons: Reasons) -> Reasons:
    """Keep only the first reason that applies to each box."""
    first: Reasons = {}
    rest: NDArray[np.bool_] | None = None
    for reason, which in reasons.items():
        first[reason] = which if rest is None else which & rest
        rest = ~which if rest is None else rest & ~which
    return first


def _empty(boxes: Boxes) -> NDArray[np.bool_]:
    return _shorter_side(boxes) <= 0


def _shorter_side(boxes: Boxes) -> NDArray[np.float64]:
    return np.minimum(boxes.xywh[:, 2], boxes.xywh[:, 3])


def _inside(boxes: Boxes) -> NDArray[np.bool_]:
    """Whether a box and its image overlap."""
    x, y, width, height = boxes.xywh.T
    across = np.minimum(x + width, boxes.width) - np.maximum(x, 0)
    down = np.minimum(y + height, boxes.height) - np.maximum(y, 0)
    return np.maximum(across, 0) * np.maximum(down, 0) != 0


def _are_normalised(boxes: Boxes) -> bool:
    return len(boxes.ids) > 0 and bool((boxes.xywh >= 0).all() and (boxes.xywh <= 1).all())


def _are_corners(boxes: Boxes) -> bool:
    """Whether width and height are larger than x and y, and fit their image, but many boxes reach beyond it."""
    if len(boxes.ids) < _FEWEST:
        return False
    x, y, width, height = boxes.xywh.T
    like = (width >= x) & (height >= y) & (width <= boxes.width + 1) & (height <= boxes.height + 1)
    beyond = (x + width > boxes.width + 1) | (y + height > boxes.height + 1)
    return bool(like.mean() >= _NEARLY_ALL and beyond.mean() >= _LEAST_BEYOND)

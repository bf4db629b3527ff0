"""The names of `train_cfg.rcnn.dynamic_rcnn.statistic`. `dynamic_rcnn.method.author` explains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MMDET, AUTHOR = "mmdet", "author"
JOINT_IOUS = "joint_ious"
FIRST_BOX = "first_box"
ALL_PROPOSALS = "all_proposals"
FLOOR_AT_START = "floor_at_start"
UPPER_MEDIAN = "upper_median"
PARTS = (JOINT_IOUS, FIRST_BOX, ALL_PROPOSALS, FLOOR_AT_START, UPPER_MEDIAN)
RULE = f"must be {MMDET}, {AUTHOR}, or a list of some of {', '.join(PARTS)}"


def is_statistic(value: Any) -> bool:
    """Whether `value` is MMDET, AUTHOR or a list of parts without repetition."""
    if isinstance(value, str):
        return value in (MMDET, AUTHOR)
    return isinstance(value, Sequence) and all(part in PARTS for part in value) and len(set(value)) == len(value)


def statistic_parts(statistic: Any) -> frozenset[str]:
    """The parts that are measured as in the author's code. Raises ValueError if `statistic` is not valid."""
    if not is_statistic(statistic):
        raise ValueError(f"dynamic_rcnn.statistic={statistic!r}: {RULE}")
    if isinstance(statistic, str):
        return frozenset(PARTS if statistic == AUTHOR else ())
    return frozenset(statistic)

"""What the launcher, which writes a grid's manifest, and the report, which reads it, must see alike."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any, TypeGuard

from dynamic_rcnn.run.directory import GRID_SUFFIX

NAME_RULE = f"letters, digits, '.', '_' and '-', the first a letter or a digit, not ending in {GRID_SUFFIX}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_plain_name(name: object) -> bool:
    """Whether `name` may be the name of a grid, an arm or a data set, and so of a folder: see NAME_RULE."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and not name.endswith(GRID_SUFFIX)


def manifest_place(dataset: str, grid: str, setting: str) -> str:
    """Where a grid's manifest lies, relative to the run folder."""
    return f"{dataset}/{grid}-{setting}{GRID_SUFFIX}"


def paper_fault(paper: Any) -> tuple[str, Any, str] | None:
    """(field, value, rule) of the first breach in a grid's `paper`; None if it is well formed, or None itself.

    rows: arm -> metric -> value in percent, as printed. weights (optional): how the sha256 of the weights that the
    numbers are of begins. test_dev (optional): as rows, on COCO test-dev, whose annotations are not public. base
    (optional): the base of the published setting, faster_rcnn_r50_fpn_1x without it.
    """
    if paper is None:
        return None
    if not isinstance(paper, dict):
        return "paper", paper, "must be a mapping or null"
    for field in ("table", "source", "dataset"):
        if not isinstance(paper.get(field), str):
            return f"paper.{field}", paper.get(field), "must be text"
    weights = paper.get("weights")
    if weights is not None and not (isinstance(weights, str) and re.fullmatch(r"[0-9a-f]{8,64}", weights)):
        return "paper.weights", weights, "must be the first 8 or more hex digits of a sha256, in quotes"
    if not isinstance(paper.get("base", ""), str):
        return "paper.base", paper["base"], "must be the name of a base"
    return _rows_fault("paper.rows", paper.get("rows")) or _rows_fault("paper.test_dev", paper.get("test_dev", {}))


def _rows_fault(field: str, rows: Any) -> tuple[str, Any, str] | None:
    if not isinstance(rows, dict):
        return field, rows, "must map arms to metrics"
    for arm, row in rows.items():
        if not isinstance(row, dict) or not all(_is_number(number) for number in row.values()):
            return f"{field}.{arm}", row, "must map metrics to numbers in percent"
    return None


def is_seed(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def contrasts_fault(contrasts: Any, arms: Collection[str]) -> str | None:
    """The rule that a grid's `contrasts` breaks; None if it is well formed, or None itself."""
    if contrasts is None:
        return None
    pairs = contrasts if isinstance(contrasts, list) else [contrasts]
    for pair in pairs:
        named = isinstance(pair, list) and all(isinstance(arm, str) for arm in pair)
        if not named or len(pair) != 2 or len(set(pair)) != 2 or not set(pair) <= set(arms):
            return f"must be a list of pairs of different arms, such as [both, baseline]; valid: {', '.join(arms)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""The rules for an annotation file in COCO format.

Crowd boxes, images without boxes, boxes of width 0 (COCO has them) and ids with gaps are legal. Rules are checked
column by column, with numpy: COCO has 860,000 annotations.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_rcnn.data.annotations import ABSENT, Annotations, Image, ImageInfo
from dynamic_rcnn.data.missing_files import why_missing
from dynamic_rcnn.errors import UserError

_Kinds = dict[str, tuple[type, ...]]  # field -> its types
_Bools = NDArray[np.bool_]
_Report = Callable[[_Bools, Callable[[Any], str]], None]

_LONGEST_SIDE = 2**31 - 1  # in pixels, as the evaluator stores it
NAMED = 3  # number of problems that a message describes
_INT64 = range(-(2**63), 2**63)  # the integers that pandas and numpy can store
_KIND_NAMES: dict[tuple[type, ...], str] = {
    (int,): "an integer",
    (str,): "a text",
    (list,): "a list",
    (int, float): "a number",
    (int, bool): "0 or 1",
}
_IMAGE: _Kinds = {"id": (int,), "file_name": (str,), "width": (int,), "height": (int,)}
_CATEGORY: _Kinds = {"id": (int,), "name": (str,)}
_ANNOTATION: _Kinds = {
    **dict.fromkeys(("id", "image_id", "category_id"), (int,)),
    "bbox": (list,),
    "area": (int, float),
    "iscrowd": (int, bool),
}


class Problems:
    """Collects problems: describes the first few and counts the others."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    @property
    def wants_more(self) -> bool:
        """Whether the next problem will be described."""
        return self.count < NAMED

    def add(self, text: str) -> None:
        self.count += 1
        if self.count <= NAMED:
            self.first.append(text)

    def add_at(self, positions: Iterable[int], describe: Callable[[int], str]) -> None:
        """Add a problem for each position; only those that are shown are described."""
        for position in positions:
            self.add(describe(int(position)) if self.wants_more else "")

    def refuse(self, path: Path) -> None:
        """Raise UserError for the file in which there are problems, if there are any."""
        if self.count:
            raise UserError(f"{path}: {self}")

    def __str__(self) -> str:
        more = f"; and {self.count - NAMED} more" if self.count > NAMED else ""
        return "; ".join(self.first) + more


@dataclass(frozen=True)
class Boxes:
    """The annotations of a checked file as columns [N], in the order of the file.

    image: position among the images. xywh: [N, 4] in pixels. crowd, ignore: as the file marks them.
    width, height: of the annotation's image.
    """

    ids: list[int]
    image: NDArray[np.int64]
    xywh: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    width: NDArray[np.float64]
    height: NDArray[np.float64]


def check_image_fields(content: ImageInfo, problems: Problems) -> None:
    """Check the images, except that their files exist, and the categories."""
    images, categories = content.images, content.categories
    if _are_typed(images, "image", _IMAGE, problems):
        _check_ids(images, "image", problems)
        for image in images:
            if not image.file_name:
                problems.add(f"image {image.id}: file_name is empty")
            if not (0 < image.width <= _LONGEST_SIDE and 0 < image.height <= _LONGEST_SIDE):
                rule = f"width and height must be from 1 to {_LONGEST_SIDE}"
                problems.add(f"image {image.id}: size is {image.width} x {image.height}; {rule}")
    if not categories:
        problems.add("'categories' is empty; at least one is needed")
    if _are_typed(categories, "category", _CATEGORY, problems):
        _check_ids(categories, "category", problems)
        names = [category.name for category in categories]
        twice = [at for at, name in enumerate(names) if name in names[:at]]
        problems.add_at(twice, lambda at: f"category {categories[at].id}: name {names[at]!r} is used twice")
        unreadable = [at for at, name in enumerate(names) if not name.strip() or not name.isprintable()]
        rule = "it must be one line of text, and not empty"
        problems.add_at(unreadable, lambda at: f"category {categories[at].id}: name is {names[at]!r}; {rule}")


def check_annotations(content: Annotations[Any], problems: Problems) -> Boxes | None:
    """Check all but the image files and the segmentations. Returns the boxes; None if there are problems."""
    check_image_fields(content, problems)
    items = content.annotations
    typed = _are_typed(items, "annotation", _ANNOTATION, problems)
    if problems.count or not typed:
        return None
    _check_ids(items, "annotation", problems)
    image = _positions([each.id for each in content.images], [each.image_id for each in items])
    category = _positions([each.id for each in content.categories], [each.category_id for each in items])
    known = ", ".join(map(str, sorted(each.id for each in content.categories)[:10]))
    known += ", ..." if len(content.categories) > 10 else ""

    def report(wrong: _Bools, describe: Callable[[Any], str]) -> None:
        problems.add_at(np.flatnonzero(wrong), lambda at: f"annotation {items[at].id}: {describe(items[at])}")

    report(image < 0, lambda item: f"image_id {item.image_id} is not among the images")
    report(category < 0, lambda item: f"category_id {item.category_id} is not among the categories ({known})")
    xywh = _boxes([each.bbox for each in items], report)
    area = _floats([each.area for each in items])
    report(~((area >= 0) & (area < np.inf)), lambda item: f"area is {item.area}; it must be finite and not negative")
    crowd = _floats([each.iscrowd for each in items])
    report((crowd != 0) & (crowd != 1), lambda item: f"iscrowd is {item.iscrowd}; it must be 0 or 1")
    if problems.count:
        return None
    sizes = np.array([(each.width, each.height) for each in content.images], np.float64).reshape(-1, 2)[image]
    ignore = np.fromiter((bool(each.ignore) for each in items), np.bool_, len(items))
    ids = [each.id for each in items]
    return Boxes(ids, image, xywh, area, crowd == 1, ignore, sizes[:, 0], sizes[:, 1])


def check_image_files(images: Sequence[Image], folder: Path, problems: Problems) -> None:
    """Check that every image file exists and is not empty, by listing folders; no image is decoded."""
    listed: dict[str, set[str]] = {}
    for image in images:
        name = PurePosixPath(image.file_name)
        parent = str(name.parent)
        if parent not in listed:
            listed[parent] = _files_in(folder / parent)
        if image.file_name.endswith("/"):
            problems.add(f"image {image.id}: file_name {image.file_name!r} ends in a slash; it must name a file")
        elif name.name not in listed[parent]:
            hint = why_missing(folder, image.file_name) if problems.wants_more else ""
            problems.add(f"image {image.id}: file {folder / name} is missing or empty{hint}")


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if _has_content(entry)}
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return set()


def _has_content(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() and entry.stat().st_size > 0
    except OSError:  # a link that leads back to itself
        return False


def _are_typed(items: Sequence[Any], noun: str, kinds: _Kinds, problems: Problems) -> bool:
    """Report items without a field, or with one of another type. Returns whether all have all fields."""
    columns = {key: [getattr(item, key) for item in items] for key in kinds}
    wrong = [key for key, kind in kinds.items() if not set(map(type, columns[key])) <= set(kind)]
    positions = sorted({at for key in wrong for at, value in enumerate(columns[key]) if type(value) not in kinds[key]})

    def describe(at: int) -> str:
        absent = [key for key in kinds if columns[key][at] is ABSENT]
        if absent:
            return f"{noun} number {at + 1}: {', '.join(absent)} missing; required: {', '.join(kinds)}"
        key = next(key for key in wrong if type(columns[key][at]) not in kinds[key])
        rule = f"it must be {_KIND_NAMES[kinds[key]]}"
        return f"{noun} number {at + 1}: {key} is {reprlib.repr(columns[key][at])}; {rule}"

    problems.add_at(positions, describe)
    return not positions


def _check_ids(items: Sequence[Any], noun: str, problems: Problems) -> None:
    """Report ids that are used twice, or do not fit into 64 bits."""
    ids = [item.id for item in items]
    if ids and (min(ids) not in _INT64 or max(ids) not in _INT64):
        large = [at for at, number in enumerate(ids) if number not in _INT64]
        problems.add_at(large, lambda at: f"{noun} id {ids[at]}: must fit into 64 bits, from -2**63 to 2**63 - 1")
    if len(set(ids)) < len(ids):
        seen: set[int] = set()
        twice = [at for at, number in enumerate(ids) if number in seen or seen.add(number)]  # type: ignore[func-returns-value]
        problems.add_at(twice, lambda at: f"{noun} {ids[at]}: id is used twice")


def _positions(known: list[int], wanted: list[int]) -> NDArray[np.int64]:
    """The position in `known` of each of `wanted`; -1 for those that are not there."""
    places = {number: at for at, number in enumerate(known)}
    return np.fromiter((places.get(number, -1) for number in wanted), np.int64, len(wanted))


def _boxes(boxes: list[list[Any]], report: _Report) -> NDArray[np.float64]:
    """The boxes as an array [N, 4]; reports those that are not boxes."""

    def report_boxes(wrong: _Bools, rule: str) -> None:
        report(wrong, lambda item: f"bbox is {reprlib.repr(item.bbox)}; {rule}")

    lengths = np.fromiter(map(len, boxes), np.int64, len(boxes))
    if (lengths != 4).any():
        report_boxes(lengths != 4, "it must be [x, y, width, height]")
        return np.zeros((0, 4))
    if not set(map(type, chain.from_iterable(boxes))) <= {int, float}:
        wrong = [not set(map(type, box)) <= {int, float} for box in boxes]
        report_boxes(np.array(wrong), "it must be four numbers")
        return np.zeros((0, 4))
    xywh = _floats(list(chain.from_iterable(boxes))).reshape(-1, 4)
    finite = np.asarray(np.isfinite(xywh).all(axis=1))
    negative = np.minimum(xywh[:, 2], xywh[:, 3]) < 0
    report_boxes(~finite, "its numbers must be finite")
    report_boxes(finite & negative, "width and height must not be negative")
    return xywh


def _floats(values: list[Any]) -> NDArray[np.float64]:
    """Integers and floats as an array; infinity for an integer that no float can hold."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:
        return np.array([float(value) if abs(value) < 2**1023 else np.inf for value in values])

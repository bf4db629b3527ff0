"""The rules for an annotation file in COCO format.

Crowd boxes, images without boxes, boxes of width 0 (COCO has them) and ids with gaps are legal. Checking the 860,000
annotations of COCO takes a few seconds.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dynamic_rcnn.data.missing_files import why_missing

NAMED = 3  # problems that a message describes
_KIND_NAMES: dict[Any, str] = {int: "an integer", str: "a text", list: "a list", (int, float): "a number"}


class Problems:
    """Collects problems: describes the first few and counts the others."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.count += 1
        if self.count <= NAMED:
            self.first.append(text)

    def __str__(self) -> str:
        more = f"; and {self.count - NAMED} more" if self.count > NAMED else ""
        return "; ".join(self.first) + more


def check_content(content: Any, annotated: bool, problems: Problems) -> None:
    """Check the decoded content of a file with or without annotations, except that its images exist."""
    _check_sections(content, ("images", *(["annotations"] if annotated else []), "categories"), problems)
    if problems.count:
        return
    image_ids = _check_images(content["images"], problems)
    category_ids = _check_categories(content["categories"], problems)
    if annotated:
        _check_annotations(content["annotations"], image_ids, category_ids, problems)


def check_image_files(images: list[dict[str, Any]], folder: Path, problems: Problems) -> None:
    """Check that every image file exists and is not empty, by listing folders; no image is decoded."""
    listed: dict[str, set[str]] = {}
    for image in images:
        name = PurePosixPath(image["file_name"])
        parent = str(name.parent)
        if parent not in listed:
            listed[parent] = _files_in(folder / parent)
        if name.name not in listed[parent]:
            hint = why_missing(folder, image["file_name"]) if problems.count < NAMED else ""
            problems.add(f"image {image['id']}: file {folder / name} is missing or empty{hint}")


def check_masks(annotations: list[dict[str, Any]], problems: Problems) -> None:
    """Check that every annotation has a segmentation."""
    for item in annotations:
        if not item.get("segmentation"):
            problems.add(f"annotation {item['id']}: has no segmentation, which a model with masks needs")


def _check_sections(content: Any, sections: tuple[str, ...], problems: Problems) -> None:
    *others, last = map(repr, sections)
    needed = f"{', '.join(others)} and {last}"
    if not isinstance(content, dict):
        problems.add(f"content is a {type(content).__name__}; it must be an object with {needed}")
        return
    for section in sections:
        if section not in content:
            problems.add(f"key {section!r} is missing; required: {needed}")
        elif not isinstance(content[section], list):
            problems.add(f"{section!r} is a {type(content[section]).__name__}; it must be a list")


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if _has_content(entry)}
    except OSError:
        return set()


def _has_content(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() and entry.stat().st_size > 0
    except OSError:  # a link that leads back to itself
        return False


def _check_images(images: list[Any], problems: Problems) -> set[int]:
    kinds = {"id": int, "file_name": str, "width": int, "height": int}
    seen: set[int] = set()
    for label, item in _well_typed(images, "image", kinds, seen, problems):
        if not item["file_name"]:
            problems.add(f"{label}: file_name is empty")
        if item["width"] <= 0 or item["height"] <= 0:
            problems.add(f"{label}: size is {item['width']} x {item['height']}; it must be positive")
    return seen


def _check_categories(categories: list[Any], problems: Problems) -> set[int]:
    seen: set[int] = set()
    names: set[str] = set()
    if not categories:
        problems.add("'categories' is empty; at least one is needed")
    for label, item in _well_typed(categories, "category", {"id": int, "name": str}, seen, problems):
        if item["name"] in names:
            problems.add(f"{label}: name {item['name']!r} is used twice")
        names.add(item["name"])
    return seen


def _check_annotations(annotations: list[Any], image_ids: set[int], category_ids: set[int], problems: Problems) -> None:
    kinds = {
        **dict.fromkeys(("id", "image_id", "category_id"), int),
        "bbox": list,
        "area": (int, float),
        "iscrowd": int,
    }
    for label, item in _well_typed(annotations, "annotation", kinds, set(), problems):
        if item["image_id"] not in image_ids:
            problems.add(f"{label}: image_id {item['image_id']} is not among the images")
        if item["category_id"] not in category_ids:
            known = ", ".join(map(str, sorted(category_ids)[:10])) + (", ..." if len(category_ids) > 10 else "")
            problems.add(f"{label}: category_id {item['category_id']} is not among the categories ({known})")
        if fault := _box_fault(item["bbox"]):
            problems.add(f"{label}: bbox is {reprlib.repr(item['bbox'])}; {fault}")
        if not 0 <= item["area"] < math.inf:
            problems.add(f"{label}: area is {item['area']}; it must be finite and not negative")
        if item["iscrowd"] not in (0, 1):
            problems.add(f"{label}: iscrowd is {item['iscrowd']}; it must be 0 or 1")


def _box_fault(box: list[Any]) -> str | None:
    if len(box) != 4:
        return "it must be [x, y, width, height]"
    x, y, width, height = box
    try:
        if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(width) and math.isfinite(height)):
            return "its numbers must be finite"
    except (TypeError, OverflowError):
        return "it must be four numbers"
    if width < 0 or height < 0:
        return "width and height must not be negative"
    return None


def _well_typed(
    items: list[Any], noun: str, kinds: dict[str, Any], seen: set[int], problems: Problems
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the items whose fields have the right types, with a label for messages; report the others.

    Adds the ids to `seen`, and reports those that are used twice.
    """
    # One pass for all rules: building a label for each of 860,000 annotations is cheap, further passes are not.
    for position, item in enumerate(items):
        try:
            wrong = [key for key, kind in kinds.items() if not isinstance(item[key], kind) or item[key] is True]
        except (KeyError, TypeError, IndexError):
            absent = [key for key in kinds if not isinstance(item, dict) or key not in item]
            problems.add(f"{noun} number {position + 1}: {', '.join(absent)} missing; required: {', '.join(kinds)}")
            continue
        if wrong:
            key = wrong[0]
            rule = f"it must be {_KIND_NAMES[kinds[key]]}"
            problems.add(f"{noun} number {position + 1}: {key} is {reprlib.repr(item[key])}; {rule}")
            continue
        label = f"{noun} {item['id']}"
        if item["id"] in seen:
            problems.add(f"{label}: id is used twice")
        seen.add(item["id"])
        yield label, item

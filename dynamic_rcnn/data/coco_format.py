"""Any data set in COCO format, by its root folder and four paths relative to it.

`fingerprint` goes into a run's identity, `read_classes` into its model. `validate` runs once before training and
rejects what would otherwise fail, or silently give wrong results, later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamic_rcnn.data.coco_checks import Problems, check_content, check_image_files, check_masks
from dynamic_rcnn.errors import UserError

Categories = list[tuple[int, str]]  # (id, name), in the order of labels


def fingerprint(root: Path, train_ann: str, val_ann: str) -> str:
    """sha256 over the bytes of the two annotation files. Takes about a second for COCO.

    Raises:
        UserError: the root or a file is missing.
    """
    paths = _annotation_paths(root, train_ann, val_ann)
    digests = [hashlib.sha256(_read_bytes(path)).digest() for path in paths]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def read_classes(path: Path) -> tuple[str, ...]:
    """The category names of an annotation file, in the order of labels.

    Raises:
        UserError: the file is not valid JSON, or has no list of categories with names.
    """
    content = _parsed(_read_bytes(path), path)
    try:
        return tuple(str(item["name"]) for item in content["categories"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: 'categories' must be a list of objects with 'id' and 'name'") from None


def validate(
    root: Path,
    train_ann: str,
    val_ann: str,
    train_img: str,
    val_img: str,
    *,
    training: bool = True,
    masks: bool = False,
) -> None:
    """Check the annotation files, and that every image file exists; images are not read.

    Args:
        root: folder of the data set.
        train_ann, val_ann, train_img, val_img: annotation files and image folders, relative to root.
        training: False to check only the validation split; the training annotations must exist but are not read.
        masks: whether every annotation must have a segmentation.

    Raises:
        UserError: the root or a file is missing, or an annotation file breaks a rule; names the first few problems and
            counts the others.
    """
    paths = _annotation_paths(root, train_ann, val_ann)
    pairs = list(zip(paths, (train_img, val_img), strict=True))[0 if training else 1 :]
    found = [_check_split(path, root.resolve() / folder, masks) for path, folder in pairs]
    if found[0] != found[-1]:
        raise UserError(f"{paths[1]}: {_difference(found[0], found[-1])} in {paths[0].name}")


def check_image_info(path: Path, images: Path, classes: Sequence[str]) -> None:
    """Check a file of images without annotations, such as COCO's image_info_*.json, and that its images exist.

    Args:
        path: the file.
        images: folder of the images.
        classes: of the model, in the order of labels; the file must have exactly these categories.

    Raises:
        UserError: as `validate`, and for other categories.
    """
    named = [item["name"] for item in _read_checked(path, images.resolve(), annotated=False)["categories"]]
    if named != list(classes):
        found = f"{len(named)} categories ({', '.join(named[:3])}, ...)"
        raise UserError(f"{path}: has {found}; they must be the run's {len(classes)} classes, in their order")


def _check_split(path: Path, images: Path, masks: bool) -> Categories:
    """Check one annotation file. Returns only its categories, because COCO's decoded content takes gigabytes."""
    content = _read_checked(path, images, masks=masks)
    boxes = (item["bbox"] for item in content["annotations"] if not item["iscrowd"])
    if not any(width > 0 and height > 0 for _, _, width, height in boxes):
        raise UserError(f"{path}: no image has a box of positive size that is not a crowd")
    return [(item["id"], item["name"]) for item in content["categories"]]


def _read_checked(path: Path, images: Path, annotated: bool = True, masks: bool = False) -> dict[str, Any]:
    """The content of a file, after a check of all rules, and that its images are in the folder `images`."""
    content: dict[str, Any] = _parsed(_read_bytes(path), path)
    problems = Problems()
    check_content(content, annotated, problems)
    if not problems.count:
        check_image_files(content["images"], images, problems)
        if masks:
            check_masks(content["annotations"], problems)
    if problems.count:
        raise UserError(f"{path}: {problems}")
    return content


def _parsed(data: bytes, path: Path) -> Any:
    """Parse JSON in UTF-8 without a byte order mark, as pycocotools will."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def _annotation_paths(root: Path, train_ann: str, val_ann: str) -> tuple[Path, Path]:
    root = root.resolve()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; dataset.root must be the folder of the data set")
    for option, name in (("dataset.train_ann", train_ann), ("dataset.val_ann", val_ann)):
        if not (root / name).is_file():
            raise UserError(f"{root / name}: no such file; {option} must be an annotation file below {root}")
    return root / train_ann, root / val_ann


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _difference(train: Categories, val: Categories) -> str:
    """How the categories of two files differ, in words."""
    missing = [f"{name} ({number})" for number, name in train if (number, name) not in val]
    added = [f"{name} ({number})" for number, name in val if (number, name) not in train]
    if missing:
        return f"category {', '.join(missing)} is missing, but is"
    if added:
        return f"category {', '.join(added)} is not"
    return "categories are in another order than"

"""Checks and fingerprints of a data set in COCO format, given by its root folder and four paths relative to it.

The fingerprint is part of a run's identity. `validate` runs once before training and
rejects what would otherwise fail, or silently give wrong results, later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamic_rcnn.data.annotations import Category, Image, read_annotations, read_image_info
from dynamic_rcnn.data.coco_checks import Problems, check_annotations, check_image_fields, check_image_files
from dynamic_rcnn.data.coco_masks import check_masks
from dynamic_rcnn.data.shared_images import repeated_note, shared_note
from dynamic_rcnn.data.usable import dropped_note, evaluation_reasons, training_reasons, unusable_fault
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import file_digest

Categories = list[tuple[int, str]]  # (id, name), in the order of labels


@dataclass(frozen=True)
class Digests:
    """Digests of the annotation files. both: goes into a run's identity. train: of the training split alone."""

    both: str
    train: str


@dataclass(frozen=True)
class _Split:
    """What remains of an annotation file after its check: COCO's decoded content takes a gigabyte."""

    categories: Categories
    images: list[Image]
    notes: list[str]


def fingerprint(root: Path, train_ann: str, val_ann: str) -> Digests:
    """sha256 over the bytes of the two annotation files. Takes about a second for COCO.

    Raises:
        UserError: the root or a file is missing.
    """
    train, val = (file_digest(path) for path in _annotation_paths(root, train_ann, val_ann))
    return Digests(hashlib.sha256(bytes.fromhex(train + val)).hexdigest(), train)


def validate(
    root: Path,
    train_ann: str,
    val_ann: str,
    train_img: str,
    val_img: str,
    *,
    training: bool = True,
    masks: bool = False,
    min_size: float = 0,
) -> list[str]:
    """Check the annotation files, and that every image file exists; images are not decoded.

    Args:
        root: folder of the data set.
        train_ann, val_ann, train_img, val_img: annotation files and image folders, relative to root.
        training: False to check only the validation split; the training annotations must exist but are not read.
        masks: whether every annotation must have a segmentation.
        min_size: training leaves out images whose shorter side is smaller.

    Returns:
        Notes for the user: boxes that are not used, images with one file, and images that both splits have.

    Raises:
        UserError: the root or a file is missing, or an annotation file breaks a rule; names the first few problems and
            counts the others.
    """
    train_path, val_path = _annotation_paths(root, train_ann, val_ann)
    train_folder, val_folder = (root.resolve() / folder for folder in (train_img, val_img))
    val = _check_split(val_path, val_folder, masks, None)
    if not training:
        return val.notes
    train = _check_split(train_path, train_folder, masks, min_size)
    if train.categories != val.categories:
        raise UserError(f"{val_path}: {_difference(train.categories, val.categories)} in {train_path.name}")
    shared = shared_note((train_path, train_folder, train.images), (val_path, val_folder, val.images))
    return [*train.notes, *val.notes, *filter(None, [shared])]


def find_shared_images(root: Path, train_ann: str, val_ann: str, train_img: str, val_img: str) -> str | None:
    """A line on images that both splits have, from the list of images alone; None if there are none.

    Raises:
        UserError: a file is missing, or breaks a rule for images and categories.
    """
    files = _annotation_paths(root, train_ann, val_ann)
    splits = []
    for path, folder in zip(files, (train_img, val_img), strict=True):
        content, problems = read_image_info(path), Problems()
        check_image_fields(content, problems)
        problems.refuse(path)
        splits.append((path, root.resolve() / folder, content.images))
    return shared_note(*splits)


def check_annotation_file(path: Path, masks: bool = False) -> None:
    """Check an annotation file whose images are not needed. masks: whether every annotation must have a segmentation.

    Raises:
        UserError: the file cannot be read or breaks a rule.
    """
    content, problems = read_annotations(path, masks), Problems()
    boxes = check_annotations(content, problems)
    if boxes is not None and masks:
        check_masks(content.annotations, boxes, content.images, True, problems)
    problems.refuse(path)


def check_image_info(path: Path, images: Path, classes: Sequence[str]) -> None:
    """Check a file of images without annotations, such as COCO's image_info_*.json, and that its images exist.

    Args:
        path: the file.
        images: folder of the images.
        classes: of the model, in the order of labels; the file must have exactly these categories.

    Raises:
        UserError: as `validate`, and for other categories.
    """
    content, problems = read_image_info(path), Problems()
    check_image_fields(content, problems)
    if not problems.count:
        check_image_files(content.images, images.resolve(), problems)
    problems.refuse(path)
    named = [category.name for category in content.categories]
    if named != list(classes):
        found = f"{len(named)} categories ({', '.join(named[:3])}, ...)"
        raise UserError(f"{path}: has {found}; they must be the run's {len(classes)} classes, in their order")


def _check_split(path: Path, folder: Path, masks: bool, min_size: float | None) -> _Split:
    """Check one annotation file, and that its images are in `folder`. min_size: None for the validation split."""
    content, problems = read_annotations(path, masks), Problems()
    boxes, maskless = check_annotations(content, problems), None
    if boxes is not None:
        check_image_files(content.images, folder, problems)
    if boxes is not None and masks:
        maskless = check_masks(content.annotations, boxes, content.images, min_size is None, problems)
    problems.refuse(path)
    assert boxes is not None
    use = "evaluate" if min_size is None else "train on"
    reasons = evaluation_reasons(boxes) if min_size is None else training_reasons(boxes, min_size, maskless)
    if fault := unusable_fault(boxes, reasons, use):
        raise UserError(f"{path}: {fault}")
    dropped = dropped_note(boxes, reasons, use)
    notes = [dropped and f"{path}: {dropped}", repeated_note(path, content.images)]
    return _Split(_pairs(content.categories), content.images, list(filter(None, notes)))


def _pairs(categories: Sequence[Category]) -> Categories:
    return [(category.id, category.name) for category in categories]


def _annotation_paths(root: Path, train_ann: str, val_ann: str) -> tuple[Path, Path]:
    root = root.resolve()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; dataset.root must be the folder of the data set")
    for option, name in (("dataset.train_ann", train_ann), ("dataset.val_ann", val_ann)):
        if not (root / name).is_file():
            raise UserError(f"{root / name}: no such file; {option} must be an annotation file below {root}")
    return root / train_ann, root / val_ann


def _difference(train: Categories, val: Categories) -> str:
    """How the categories of two files differ, in words."""
    missing = [f"{name} ({number})" for number, name in train if (number, name) not in val]
    added = [f"{name} ({number})" for number, name in val if (number, name) not in train]
    if missing:
        return f"has no category {', '.join(missing)}, which is"
    if added:
        return f"has category {', '.join(added)}, which is not"
    return "lists the categories in another order than they have"

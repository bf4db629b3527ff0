"""Any data set in COCO format, by its root folder and four paths relative to it.

`fingerprint` is what a run's identity needs, `describe` what a plan shows and a model is built from.
`validate` is done once before training: it refuses what would otherwise fail, or silently mislead, later.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.data.coco_checks import Problems, check_content, check_image_files, has_box
from dynamic_rcnn.errors import UserError


@dataclass(frozen=True)
class CocoFormat:
    """A data set in COCO format: absolute paths, and what its annotation files say.

    `classes[i]` has the id `category_ids[i]`, in the order of the annotation files: the order of labels.
    """

    train_ann: Path
    val_ann: Path
    train_img: Path
    val_img: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    train_images: int
    val_images: int
    fingerprint: str


@dataclass(frozen=True)
class _Split:
    """What is kept of one annotation file: for COCO, the decoded content takes gigabytes."""

    categories: tuple[tuple[int, str], ...]
    images: int
    has_box: bool
    digest: bytes


def fingerprint(root: Path, train_ann: str, val_ann: str) -> str:
    """sha256 over the bytes of the two annotation files: no parsing, about a second for COCO.

    Raises:
        UserError: the root or a file is missing.
    """
    paths = _annotation_paths(root, train_ann, val_ann)
    return _joined([hashlib.sha256(_read_bytes(path)).digest() for path in paths])


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of an annotation file's categories, in the order of labels.

    Raises:
        UserError: the file is no JSON, or has no list of categories with names.
    """
    content = _parsed(_read_bytes(path), path)
    try:
        return tuple(str(item["name"]) for item in content["categories"])
    except (KeyError, TypeError):
        raise UserError(f"{path}: 'categories' must be a list of objects with 'id' and 'name'") from None


def describe(root: Path, train_ann: str, val_ann: str, train_img: str, val_img: str) -> CocoFormat:
    """What the annotation files say, checked, without a look at the image files.

    Raises:
        UserError: the root or a file is missing, or an annotation file breaks a rule; it names the first
            few problems and says how many more there are.
    """
    return _load(root, (train_ann, val_ann), (train_img, val_img), images=False)


def validate(root: Path, train_ann: str, val_ann: str, train_img: str, val_img: str) -> CocoFormat:
    """As `describe`, and every image file is there.

    Raises:
        UserError: as `describe`, or image files are missing.
    """
    return _load(root, (train_ann, val_ann), (train_img, val_img), images=True)


def _load(root: Path, annotations: tuple[str, str], folders: tuple[str, str], images: bool) -> CocoFormat:
    paths = _annotation_paths(root, *annotations)
    train_img, val_img = (root.resolve() / folder for folder in folders)
    train = _read_split(paths[0], train_img if images else None)
    val = _read_split(paths[1], val_img if images else None)
    if train.categories != val.categories:
        raise UserError(f"{paths[1]}: {_difference(train.categories, val.categories)} in {paths[0].name}")
    for path, split in ((paths[0], train), (paths[1], val)):
        if not split.has_box:
            raise UserError(f"{path}: no image has a box of positive size that is not a crowd")
    return CocoFormat(
        train_ann=paths[0],
        val_ann=paths[1],
        train_img=train_img,
        val_img=val_img,
        classes=tuple(name for _, name in train.categories),
        category_ids=tuple(number for number, _ in train.categories),
        train_images=train.images,
        val_images=val.images,
        fingerprint=_joined([train.digest, val.digest]),
    )


def _read_split(path: Path, images: Path | None) -> _Split:
    """Read and check one annotation file, and the image files where their folder is given."""
    data = _read_bytes(path)
    content = _parsed(data, path)
    problems = Problems()
    check_content(content, problems)
    if not problems.count and images is not None:
        check_image_files(content["images"], images, problems)
    if problems.count:
        raise UserError(f"{path}: {problems}")
    return _Split(
        categories=tuple((item["id"], item["name"]) for item in content["categories"]),
        images=len(content["images"]),
        has_box=has_box(content["annotations"]),
        digest=hashlib.sha256(data).digest(),
    )


def _parsed(data: bytes, path: Path) -> Any:
    """JSON in UTF-8 without a byte order mark, as pycocotools will read it."""
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


def _joined(digests: list[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _difference(train: tuple[tuple[int, str], ...], val: tuple[tuple[int, str], ...]) -> str:
    """How the categories, (id, name), of two files differ. Their order is the order of labels."""
    missing = [f"{name} ({number})" for number, name in train if (number, name) not in val]
    added = [f"{name} ({number})" for number, name in val if (number, name) not in train]
    if missing:
        return f"category {', '.join(missing)} is missing, but is"
    if added:
        return f"category {', '.join(added)} is not"
    return "categories are in another order than"

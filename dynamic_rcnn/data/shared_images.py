"""Images that a file lists twice, and those that the training and the validation split have in common.

AP on images trained on says little about other images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn.data.annotations import Image

_MOST_COMPARED = 200  # largest number of file pairs whose bytes are compared

Split = tuple[Path, Path, Sequence[Image]]  # annotation file, folder of images, images


def shared_note(train: Split, val: Split) -> str | None:
    """A note about images that both splits have; None if there are none.

    Images are the same if they are one file, or files of equal name and content.
    """
    if _are_same_file(train[0], val[0]):
        return f"{val[0]}: is the file of the training annotations; AP is measured on images trained on"
    trained = {image.file_name for image in train[2]}
    names = [image.file_name for image in val[2] if image.file_name in trained]
    count, more = len(names), ""
    if not _are_same_file(train[1], val[1]):
        count = sum(_are_equal(train[1] / name, val[1] / name) for name in names[:_MOST_COMPARED])
        more = "at least " if len(names) > _MOST_COMPARED else ""
    what = f"{more}{count:,} of {len(val[2]):,} images are also training images"
    return f"{val[0]}: {what}; AP is measured on images trained on" if count else None


def repeated_note(path: Path, images: Sequence[Image]) -> str | None:
    """A note about images of an annotation file that have one image file; None if there are none."""
    first: dict[str, Image] = {}
    repeated = [each for each in images if first.setdefault(each.file_name, each) is not each]
    if not repeated:
        return None
    example = repeated[0]
    what = f"images {first[example.file_name].id} and {example.id} have the same file_name {example.file_name!r}"
    more = f", as do {len(repeated) - 1:,} more" if len(repeated) > 1 else ""
    return f"{path}: {what}{more}; each is used as an image of its own"


def _are_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _are_equal(one: Path, other: Path) -> bool:
    """Whether two files exist and are the same file or have equal content."""
    if not one.is_file() or not other.is_file():
        return False
    same_size = one.stat().st_size == other.stat().st_size
    return one.samefile(other) or (same_size and one.read_bytes() == other.read_bytes())

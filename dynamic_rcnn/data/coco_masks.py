"""The rules for segmentations, as mmdet's loader and pycocotools' evaluation read them.

A segmentation is a list of polygons [x1, y1, x2, y2, ...], or run lengths {"size": [height, width], "counts": ...},
compressed (text) or not (integers). Everything is checked before it is passed to pycocotools, which crashes or runs
out of memory on invalid values.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dynamic_rcnn.data.annotations import Image
from dynamic_rcnn.data.coco_checks import Boxes, Problems

_FAR = 10  # longer sides of the image: a coordinate beyond is an error, and drawing it would take memory
_FORMS = "it must be a list of polygons [x1, y1, x2, y2, ...] or run lengths with size and counts"


class RunLengths(msgspec.Struct):
    size: list[int]
    counts: list[int] | str


Mask = list[list[float]] | RunLengths
_decoder = msgspec.json.Decoder(Mask)


def check_masks(
    annotations: Sequence[Any], boxes: Boxes, images: Sequence[Image], evaluated: bool, problems: Problems
) -> NDArray[np.bool_]:
    """Check the segmentation of every annotation.

    Args:
        annotations: with segmentations, in the order of `boxes`.
        boxes: the same annotations, checked.
        images: those of the file.
        evaluated: whether the evaluation reads the masks: it takes every polygon, where training drops short ones.
        problems: collects what breaks a rule, by annotation.

    Returns:
        Which annotations [N] have no polygon that training uses.
    """
    maskless = np.zeros(len(annotations), np.bool_)
    for at, (item, image) in enumerate(zip(annotations, boxes.image.tolist(), strict=True)):
        try:
            usable = _check(item.segmentation, images[image], evaluated)
        except ValueError as error:
            problems.add(f"annotation {item.id}: {error}" if problems.wants_more else "")
        else:
            maskless[at] = not usable
    return maskless


def _check(segmentation: Any, image: Image, evaluated: bool) -> bool:
    """Whether training uses the mask. Raises ValueError if it breaks a rule."""
    mask = _decode(segmentation)
    if isinstance(mask, RunLengths):
        _check_run_lengths(mask, image)
        return True
    far = _FAR * max(image.width, image.height)
    usable = False
    for polygon in mask:
        whole = len(polygon) >= 6 and len(polygon) % 2 == 0
        if not whole and evaluated:
            raise ValueError(f"a polygon has {len(polygon)} numbers; it must have x and y of at least 3 points")
        if polygon and not (math.isfinite(sum(polygon)) and -far <= min(polygon) and max(polygon) <= far):
            value = max(polygon, key=lambda number: abs(number) if math.isfinite(number) else math.inf)
            size = f"{image.width} x {image.height}"
            raise ValueError(f"a polygon has the coordinate {value:g}, far outside its image of {size} pixels")
        usable |= whole
    return usable


def _decode(segmentation: Any) -> Mask:
    """The segmentation as a mask. Raises ValueError if it is missing or in an unknown form."""
    is_text = isinstance(segmentation, msgspec.Raw)
    if segmentation is None or (is_text and not bytes(segmentation)):
        raise ValueError("has no segmentation, which a model with masks needs")
    try:
        mask: Mask = _decoder.decode(segmentation) if is_text else msgspec.convert(segmentation, Mask)
    except msgspec.ValidationError:
        value = msgspec.json.decode(segmentation) if is_text else segmentation
        if value is None:
            raise ValueError("has no segmentation, which a model with masks needs") from None
        raise ValueError(f"segmentation is {reprlib.repr(value)}; {_FORMS}") from None
    if mask == []:
        raise ValueError("has no segmentation, which a model with masks needs")
    return mask


def _check_run_lengths(mask: RunLengths, image: Image) -> None:
    size = [image.height, image.width]
    if mask.size != size:
        turned = ", turned" if mask.size == size[::-1] else ""
        raise ValueError(f"segmentation has size {mask.size}{turned}; it must be [height, width] of its image, {size}")
    lengths = mask.counts if isinstance(mask.counts, list) else decompress(mask.counts)
    if not lengths or min(lengths) < 0 or sum(lengths) != image.height * image.width:
        raise ValueError(f"the run lengths of the segmentation do not add up to {image.height} x {image.width} pixels")


def decompress(text: str) -> list[int]:
    """The run lengths that COCO's compressed text stands for (`rleFrString` of cocoapi).

    A number takes one or more characters of 6 bits, the lowest 5 bits of the number first; the sixth says that more
    follow. From the fourth number on, each is the difference from the one two before. Raises ValueError for other text.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"the run lengths of the segmentation are {reprlib.repr(text)}, not COCO's text")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # negative
                value -= 1 << shift
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the run lengths of the segmentation are cut off")
    return lengths

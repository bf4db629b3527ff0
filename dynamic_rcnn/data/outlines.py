"""The six classes of the shapes data set. Each is an outline: a function that tests the points of a square.

All arithmetic is on integers, so that masks are equal on every machine. Rotations are Pythagorean triples, and the
coordinates of an object run from -UNIT to UNIT over its width and its height.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]
Mask = NDArray[np.bool_]
Outline = Callable[[Integers, Integers], Mask]

UNIT = 1024

# (cosine, sine) as integers over a common hypotenuse: 0 to 12.7 degrees. At 45 degrees, rectangles would be diamonds.
ROTATIONS = ((1, 0, 1), (84, 13, 85), (60, 11, 61), (40, 9, 41))


def _square(p: Integers, q: Integers) -> Mask:
    return (abs(p) <= UNIT) & (abs(q) <= UNIT)


def _disc(p: Integers, q: Integers) -> Mask:
    return p * p + q * q <= UNIT * UNIT


def _diamond(p: Integers, q: Integers) -> Mask:
    return abs(p) + abs(q) <= UNIT


def _triangle(p: Integers, q: Integers) -> Mask:
    return (2 * abs(p) <= q + UNIT) & (q <= UNIT)


def _cross(p: Integers, q: Integers) -> Mask:
    return _square(p, q) & (np.minimum(abs(p), abs(q)) <= UNIT * 3 // 8)


def _ring(p: Integers, q: Integers) -> Mask:
    return _disc(p, q) & (4 * (p * p + q * q) >= UNIT * UNIT)


# Category ids have gaps, as COCO's do, so that code that takes an id for an index fails.
CATEGORY_IDS = {"ellipse": 1, "rectangle": 2, "diamond": 3, "triangle": 5, "cross": 8, "ring": 9}
OUTLINES: dict[str, Outline] = dict(
    zip(CATEGORY_IDS, (_disc, _square, _diamond, _triangle, _cross, _ring), strict=True)
)


def outline_mask(name: str, width: int, height: int, rotation: tuple[int, int, int]) -> Mask:
    """The mask of an outline, cropped to its bounding box.

    Args:
        name: a key of OUTLINES.
        width, height: of the outline before it is rotated, in pixels.
        rotation: (cosine, sine, hypotenuse), cosine**2 + sine**2 == hypotenuse**2; the sine may be negative.

    Returns:
        Mask [rows, columns], touching all four sides.
    """
    cosine, sine, hypotenuse = rotation
    half = (cosine * max(width, height) + abs(sine) * max(width, height)) // (2 * hypotenuse) + 2
    centres = 2 * np.arange(-half, half, dtype=np.int32) + 1  # pixel centres, in half pixels
    x, y = centres[None, :], centres[:, None]
    p = _divide((cosine * x + sine * y) * UNIT, hypotenuse * width)
    q = _divide((cosine * y - sine * x) * UNIT, hypotenuse * height)
    mask = OUTLINES[name](p, q)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _divide(values: Integers, divisor: int) -> Integers:
    """Integer division towards zero, which keeps outlines symmetric."""
    return np.sign(values) * (abs(values) // divisor)

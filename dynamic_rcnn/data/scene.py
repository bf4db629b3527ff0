"""Draws one image of the shapes data set: background, clutter, objects, blur and noise.

Only the outline tells the class: colours, textures and sizes are random. All arithmetic is on integers and all
randomness comes from a `RandomState`, whose stream numpy guarantees, so that the pixels are equal on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from dynamic_rcnn.data.outlines import OUTLINES, ROTATIONS, Mask, outline_mask

Pixels = NDArray[np.int32]

MAX_OBJECTS = 7
SIDES = (14, 18, 22, 26, 30, 34, 39, 44, 50, 56, 62, 68, 75)  # of the longer side, in pixels
VISIBLE = (2, 3)  # the smallest visible part of an object, as a fraction
ATTEMPTS = 30  # number of attempts to place one object


@dataclass(frozen=True)
class SceneObject:
    """One object: its class and the mask [size, size] of its visible pixels."""

    name: str
    visible: Mask


@dataclass(frozen=True)
class _Stamp:
    """A mask and the position of its upper left pixel, which may lie outside the image."""

    mask: Mask
    left: int
    top: int

    def clipped(self, size: int) -> tuple[tuple[slice, slice], Mask]:
        """The window of the image that the stamp covers, and the part of the mask inside."""
        rows, columns = self.mask.shape
        top, left = min(max(self.top, 0), size), min(max(self.left, 0), size)
        bottom, right = max(min(self.top + rows, size), top), max(min(self.left + columns, size), left)
        inside = self.mask[top - self.top : bottom - self.top, left - self.left : right - self.left]
        return (slice(top, bottom), slice(left, right)), inside


def draw_scene(rng: RandomState, size: int) -> tuple[NDArray[np.uint8], list[SceneObject]]:
    """Draw one image.

    Args:
        rng: the only source of randomness.
        size: height and width in pixels, at least 64.

    Returns:
        The RGB image [size, size, 3], and its 1 to MAX_OBJECTS objects in the order of painting.
    """
    image, base = _background(rng, size)
    for _ in range(_integer(rng, 2, 8)):
        stamp = _clutter(rng, size)
        _paint(image, stamp, _surface(rng, base, stamp.mask))
    owner, stamps, names = _place_objects(rng, size)
    for stamp in stamps:
        _paint(image, stamp, _surface(rng, base, stamp.mask))
    for _ in range(_integer(rng, 0, 3)):
        scratch = _line(rng, size, thickness=1)
        covered = _apply_stamp(owner, scratch, 0)
        if _enough_visible(covered, stamps):
            owner = covered
            _paint(image, scratch, _surface(rng, base, scratch.mask))
    for _ in range(_integer(rng, 0, 3)):
        image = _blur(image)
    image += _pixel_noise(rng, image.shape, amplitude=_integer(rng, 4, 17))
    objects = [SceneObject(name, owner == number) for number, name in enumerate(names, start=1)]
    return image.clip(0, 255).astype(np.uint8), objects


def _place_objects(rng: RandomState, size: int) -> tuple[Pixels, list[_Stamp], list[str]]:
    """Place the objects. Returns owner [size, size], 0 or the number (from 1) of the visible object; stamps; names."""
    owner: Pixels = np.zeros((size, size), dtype=np.int32)
    stamps: list[_Stamp] = []
    names: list[str] = []
    for _ in range(_integer(rng, 1, MAX_OBJECTS + 1)):
        for _ in range(ATTEMPTS):
            name = list(OUTLINES)[_integer(rng, 0, len(OUTLINES))]
            stamp = _object(rng, size, name, stamps)
            placed = _apply_stamp(owner, stamp, len(stamps) + 1)
            if _enough_visible(placed, [*stamps, stamp]):
                owner = placed
                stamps.append(stamp)
                names.append(name)
                break
    assert stamps, "an object fits into an empty image"
    return owner, stamps, names


def _object(rng: RandomState, size: int, name: str, others: list[_Stamp]) -> _Stamp:
    """A random object. One of three is placed beside or over another object."""
    sides = [side for side in SIDES if side <= size // 2]
    longer = sides[_integer(rng, 0, len(sides))] + _integer(rng, -1, 2)
    shorter = max(longer * _integer(rng, 13, 21) // 20, 12)
    width, height = (longer, shorter) if _integer(rng, 0, 2) else (shorter, longer)
    cosine, sine, hypotenuse = ROTATIONS[_integer(rng, 0, len(ROTATIONS))]
    sine *= 1 - 2 * _integer(rng, 0, 2)
    mask = outline_mask(name, width, height, (cosine, sine, hypotenuse))
    rows, columns = mask.shape
    left = _integer(rng, -(columns // 8), size - columns + columns // 8 + 1)
    top = _integer(rng, -(rows // 8), size - rows + rows // 8 + 1)
    if others and _integer(rng, 0, 3) == 0:
        other = others[_integer(rng, 0, len(others))]
        left = other.left + _integer(rng, -columns, other.mask.shape[1] + 1)
        top = other.top + _integer(rng, -rows, other.mask.shape[0] + 1)
    return _Stamp(mask, left, top)


def _enough_visible(owner: Pixels, stamps: list[_Stamp]) -> bool:
    seen = np.bincount(owner.ravel(), minlength=len(stamps) + 1)[1:]
    share, of = VISIBLE
    return all(of * int(count) >= share * int(stamp.mask.sum()) for count, stamp in zip(seen, stamps, strict=True))


def _apply_stamp(owner: Pixels, stamp: _Stamp, number: int) -> Pixels:
    window, inside = stamp.clipped(len(owner))
    result = owner.copy()
    result[window][inside] = number
    return result


def _paint(image: Pixels, stamp: _Stamp, surface: Pixels) -> None:
    window, inside = stamp.clipped(len(image))
    rows, columns = inside.shape
    top, left = max(-stamp.top, 0), max(-stamp.left, 0)
    if inside.size:
        image[window][inside] = surface[top : top + rows, left : left + columns][inside]


def _background(rng: RandomState, size: int) -> tuple[Pixels, Pixels]:
    """An uneven background [size, size, 3] and its mean colour [3]."""
    base = rng.randint(80, 176, size=3, dtype=np.int32)
    image = base + _smooth_noise(rng, size, size, octave=5, amplitude=_integer(rng, 4, 28), channels=3)
    image += _smooth_noise(rng, size, size, octave=3, amplitude=_integer(rng, 2, 16), channels=1)
    return image, base


def _surface(rng: RandomState, base: Pixels, mask: Mask) -> Pixels:
    """Colour and texture [rows, columns, 3] for a mask; one of five is close to the background's colour."""
    rows, columns = mask.shape
    lowest, highest = (16, 40) if _integer(rng, 0, 5) == 0 else (40, 120)
    offset = rng.randint(lowest, highest, size=3, dtype=np.int32) * (2 * rng.randint(0, 2, size=3, dtype=np.int32) - 1)
    colour = np.where((base + offset < 0) | (base + offset > 255), base - offset, base + offset)
    amplitude = _integer(rng, 2, 22)
    if _integer(rng, 0, 2):
        return colour + _smooth_noise(rng, rows, columns, octave=3, amplitude=amplitude, channels=1)
    along = rng.randint(-2, 3, size=2, dtype=np.int32)
    y, x = np.arange(rows, dtype=np.int32)[:, None], np.arange(columns, dtype=np.int32)[None, :]
    stripes = (along[0] * x + along[1] * y) // _integer(rng, 3, 10) % 2
    return colour + (amplitude * (2 * stripes - 1))[:, :, None]


def _clutter(rng: RandomState, size: int) -> _Stamp:
    """A distractor: a line, a speck smaller than any object, or a smudge without a regular outline."""
    kind = _integer(rng, 0, 4)
    if kind < 2:
        return _line(rng, size, thickness=_integer(rng, 1, 4))
    if kind == 2:
        mask = outline_mask("ellipse", _integer(rng, 3, 8), _integer(rng, 3, 8), ROTATIONS[0])
    else:
        mask = _smooth_noise(rng, 24, 24, octave=3, amplitude=100, channels=1)[:, :, 0] > 20
    return _Stamp(mask, _integer(rng, -4, size), _integer(rng, -4, size))


def _line(rng: RandomState, size: int, thickness: int) -> _Stamp:
    columns, rows = _integer(rng, 6, size // 2), _integer(rng, 6, size // 2)
    y, x = np.arange(rows, dtype=np.int32)[:, None], np.arange(columns, dtype=np.int32)[None, :]
    mask = abs(columns * y - rows * x) * 2 <= thickness * max(rows, columns)
    if _integer(rng, 0, 2):
        mask = mask[::-1]
    return _Stamp(mask, _integer(rng, -columns // 2, size), _integer(rng, -rows // 2, size))


def _smooth_noise(rng: RandomState, rows: int, columns: int, octave: int, amplitude: int, channels: int) -> Pixels:
    """Noise [rows, columns, channels] up to +-amplitude, random every 2**octave pixels and linear in between."""
    spacing = 1 << octave
    lattice = (rows // spacing + 2, columns // spacing + 2, channels)
    values = rng.randint(-amplitude, amplitude + 1, size=lattice, dtype=np.int32)
    x, y = np.arange(columns, dtype=np.int32), np.arange(rows, dtype=np.int32)
    low, part = x >> octave, (x & (spacing - 1))[None, :, None]
    values = values[:, low] * (spacing - part) + values[:, low + 1] * part
    low, part = y >> octave, (y & (spacing - 1))[:, None, None]
    return (values[low] * (spacing - part) + values[low + 1] * part) >> (2 * octave)


def _pixel_noise(rng: RandomState, shape: tuple[int, ...], amplitude: int) -> Pixels:
    """Independent noise in -amplitude..amplitude; drawn as bytes, which is several times faster than integers."""
    values = np.frombuffer(rng.bytes(math.prod(shape)), dtype=np.uint8).reshape(shape).astype(np.int32)
    return (values * (2 * amplitude + 1) >> 8) - amplitude


def _blur(image: Pixels) -> Pixels:
    """Blur with the filter (1, 2, 1) / 4 in both directions, repeating the border."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (columns[:-2] + 2 * columns[1:-1] + columns[2:] + 8) >> 4


def _integer(rng: RandomState, low: int, high: int) -> int:
    """A random integer in low..high-1, drawn as int32 because numpy's default type depends on the platform."""
    return int(rng.randint(low, high, dtype=np.int32))

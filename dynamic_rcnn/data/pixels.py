"""Decode an image file to the pixels that training sees. Torch-free.

Training loads images with mmcv's LoadImageFromFile, which hands the bytes of a file to OpenCV: the orientation that a
camera noted (EXIF) is applied, 16 bits become 8, and a truncated JPEG is refused. `decode` does the same; a test
compares the two.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynamic_rcnn.errors import UserError

Pixels = NDArray[Any]  # (height, width, 3) in the order blue, green, red; (height, width) for grey
COLOR, OPENCV = "color", "cv2"  # the defaults of mmcv's loader: its color_type and imdecode_backend
_FLAGS = {
    COLOR: cv2.IMREAD_COLOR,
    "grayscale": cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
    "color_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR,
    "grayscale_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_GRAYSCALE,
}
_ORIENTATION = 0x0112  # the number of the EXIF field
_MARKS = (b"Exif", b"eXIf", b"EXIF", b"acTL")  # marks of EXIF data in JPEG, PNG and WebP, and of an animation in PNG
_ANIMATED = (
    b"GIF8",
    b"RIFF",
    b"II",
    b"MM",
)  # first bytes of GIF, WebP and TIFF files, which may have several frames
_ALMOST_BLACK = 32  # the upper three of 8 bits are unused
_MOST_PIXELS = 1 << 30  # OpenCV's limit
_SHOWN_BYTES = 1024  # how much of a file is read to tell what it is
_AGAIN = "download it again"
_CONVERT = "convert it to JPEG or PNG"
_BEGINNINGS: Sequence[tuple[int, bytes, str]] = (  # offset, bytes at this offset, description and advice
    (0, b"version https://git-lfs", "a Git LFS pointer instead of the image; run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer instead of the image; run `git annex get`"),
    (0, b"\xff\xd8", f"a truncated or damaged JPEG; {_AGAIN}"),
    (0, b"\x89PNG", f"a truncated or damaged PNG; {_AGAIN}"),
    (0, b"GIF8", f"a GIF that OpenCV cannot decode; {_CONVERT}"),
    (8, b"WEBP", f"a WebP that is damaged or that OpenCV cannot decode; {_AGAIN}, or {_CONVERT}"),
    (4, b"ftypavi", f"an AVIF, which OpenCV cannot decode; {_CONVERT}"),
    (4, b"ftyphei", f"an HEIC, which OpenCV cannot decode; {_CONVERT}"),
    (4, b"ftyphev", f"an HEIC, which OpenCV cannot decode; {_CONVERT}"),
    (4, b"ftypmif", f"an HEIC, which OpenCV cannot decode; {_CONVERT}"),
    (4, b"ftyp", "a video; save its frames as images"),
    (4, b"JXL ", f"a JPEG XL, which OpenCV cannot decode; {_CONVERT}"),
    (0, b"\xff\x0a", f"a JPEG XL, which OpenCV cannot decode; {_CONVERT}"),
    (0, b"%PDF", f"a PDF; {_CONVERT}"),
    (0, b"II*\0", f"a TIFF that is damaged or that OpenCV cannot decode, such as one of 32 bits; {_CONVERT}"),
    (0, b"MM\0*", f"a TIFF that is damaged or that OpenCV cannot decode, such as one of 32 bits; {_CONVERT}"),
    (0, b"BM", f"a truncated or damaged BMP; {_AGAIN}"),
    (0, b"\0\x05\x16\x07", "a file in which macOS keeps attributes (._NAME) instead of the image"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it"),
)


@dataclass(frozen=True)
class Inspection:
    """What an image file decodes to.

    Attributes:
        width, height: of the decoded image, in pixels.
        turned: decoding applied an orientation that a camera noted (EXIF).
        animated: the file has several frames, of which decoding returns the first.
        almost_black: 16 bits whose upper bits are unused; a camera's 12 bits (0 to 4095) become 0 to 15 of 255.
    """

    width: int
    height: int
    turned: bool = False
    animated: bool = False
    almost_black: bool = False


def image_loader(pipeline: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The color_type and the imdecode_backend with which a pipeline of mmdet loads images."""
    loaders = [step for step in pipeline if str(step.get("type")).endswith("LoadImageFromFile")]
    loader = loaders[0] if loaders else {}
    return str(loader.get("color_type", COLOR)), str(loader.get("imdecode_backend", OPENCV))


def decode(content: bytes, color_type: str = COLOR) -> Pixels | None:
    """Decode the bytes of an image file as mmcv does in training.

    Args:
        content: the bytes.
        color_type: as of mmcv's LoadImageFromFile.

    Returns:
        The pixels, or None if training would refuse the file.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS[color_type]) if content else None
    except cv2.error:
        return None


def read_pixels(path: Path, color_type: str = COLOR) -> Pixels:
    """Read and decode an image file.

    Raises:
        UserError: the file cannot be read or decoded. The message tells what the file is instead.
    """
    return _decoded(path, color_type)[1]


def inspect(path: Path, color_type: str = COLOR) -> Inspection:
    """Read and decode an image file, and detect what decoding changes. Raises UserError as `read_pixels` does."""
    content, pixels = _decoded(path, color_type)
    height, width = pixels.shape[:2]
    orientation, frames = _header(content)
    turned = orientation != 1 and _is_turned(content, pixels, color_type)
    return Inspection(width, height, turned, frames > 1, _loses_bits(content, pixels))


def _decoded(path: Path, color_type: str) -> tuple[bytes, Pixels]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"file {path} cannot be read: {error.strerror}") from None
    pixels = decode(content, color_type)
    if pixels is None:
        raise UserError(f"file {path} is {describe(content)}")
    return content, pixels


def describe(content: bytes) -> str:
    """Describe a file that cannot be decoded, with advice."""
    if _pixels_in_header(content) > _MOST_PIXELS:
        return f"an image of more than {_MOST_PIXELS:,} pixels, which OpenCV does not decode; cut it into tiles"
    for offset, found, text in _BEGINNINGS:
        if content.startswith(found, offset):
            return text
    beginning = content[:_SHOWN_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"<svg" in beginning.lower():
        return f"an SVG drawing; {_CONVERT}"
    if beginning.startswith(b"<"):
        return f"an HTML or XML page, such as a server's error message; {_AGAIN}"
    if not content.strip(b"\0"):
        return f"empty or nothing but zero bytes; {_AGAIN}"
    if beginning.isascii() and b"\0" not in beginning:
        return f"text instead of an image; {_AGAIN}"
    return f"not an image that OpenCV can decode; {_AGAIN}, or {_CONVERT}"


def _pixels_in_header(content: bytes) -> int:
    """The number of pixels that the file claims to have, or 0 if Pillow does not know the format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, and refuses larger ones
        try:
            with Image.open(io.BytesIO(content)) as image:
                return image.width * image.height
        except Image.DecompressionBombError as error:
            return max(int(digits) for digits in re.findall(r"\d+", str(error)))
        except (OSError, ValueError, SyntaxError, TypeError):
            return 0


def _header(content: bytes) -> tuple[int, int]:
    """The orientation that a camera noted (1: upright), and the number of frames; (1, 1) if the file does not say."""
    if not content.startswith(_ANIMATED) and not any(mark in content for mark in _MARKS):
        return 1, 1
    try:
        with Image.open(io.BytesIO(content)) as image:
            return int(image.getexif().get(_ORIENTATION, 1)), int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, TypeError):  # Pillow's errors about damaged fields, which OpenCV ignores
        return 1, 1


def _is_turned(content: bytes, pixels: Pixels, color_type: str) -> bool:
    ignoring = f"{color_type}_ignore_orientation"
    stored = decode(content, ignoring) if ignoring in _FLAGS else pixels
    return stored is not None and not np.array_equal(pixels, stored)


def _loses_bits(content: bytes, pixels: Pixels) -> bool:
    if pixels.dtype != np.uint8 or pixels.max(initial=0) >= _ALMOST_BLACK:
        return False
    original = decode(content, "unchanged")
    return original is not None and original.dtype == np.uint16 and int(original.max(initial=0)) >= _ALMOST_BLACK

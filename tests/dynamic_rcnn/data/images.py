"""Image files as cameras, converters and failed downloads leave them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 56
PIXELS = cv2.GaussianBlur(np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8), (5, 5), 0)
PICTURE = Image.fromarray(PIXELS)
FLOATS = Image.fromarray(PIXELS[..., 0].astype(np.float32) / 255)
UPSIDE_DOWN, TURNED_RIGHT = 3, 6  # EXIF's numbers


def encoded(kind: str, picture: Image.Image = PICTURE, orientation: int = 1, frames: int = 1) -> bytes:
    """`picture` as a file of Pillow's format `kind`."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = [picture.rotate(90 * number) for number in range(1, frames)]
    extra = {"exif": exif} if orientation != 1 else {}
    picture.save(buffer, kind, **extra, **({"save_all": True, "append_images": more} if more else {}))
    return buffer.getvalue()


def sixteen_bits(factor: int, extension: str = ".png") -> bytes:
    """An image of 16 bits with values up to 255 x factor."""
    done, content = cv2.imencode(extension, PIXELS.astype(np.uint16) * factor)
    assert done
    return content.tobytes()


VALID: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded("JPEG"),
    "JPEG, grey": lambda: encoded("JPEG", PICTURE.convert("L")),
    "JPEG, CMYK": lambda: encoded("JPEG", PICTURE.convert("CMYK")),
    "JPEG, upside down": lambda: encoded("JPEG", orientation=UPSIDE_DOWN),
    "JPEG, turned": lambda: encoded("JPEG", orientation=TURNED_RIGHT),
    "PNG": lambda: encoded("PNG"),
    "PNG, turned": lambda: encoded("PNG", orientation=TURNED_RIGHT),
    "PNG, one bit": lambda: encoded("PNG", PICTURE.convert("1")),
    "PNG, palette": lambda: encoded("PNG", PICTURE.convert("P")),
    "PNG, grey with transparency": lambda: encoded("PNG", PICTURE.convert("LA")),
    "PNG, 16 bits": lambda: sixteen_bits(257),
    "PNG, 12 of 16 bits": lambda: sixteen_bits(16),
    "PNG, animated": lambda: encoded("PNG", frames=3),
    "GIF, animated": lambda: encoded("GIF", frames=3),
    "WebP": lambda: encoded("WEBP"),
    "WebP, turned": lambda: encoded("WEBP", orientation=TURNED_RIGHT),
    "WebP, animated": lambda: encoded("WEBP", frames=3),
    "TIFF": lambda: encoded("TIFF"),
    "TIFF, 12 of 16 bits": lambda: sixteen_bits(16, ".tif"),
    "TIFF, several pages": lambda: encoded("TIFF", frames=3),
    "BMP": lambda: encoded("BMP"),
}
INVALID: dict[str, tuple[Callable[[], bytes], str]] = {  # each with the description of the file in messages
    "empty": (lambda: b"", "empty or nothing but zero bytes"),
    "zero bytes": (lambda: bytes(5000), "empty or nothing but zero bytes"),
    "JPEG, half": (lambda: encoded("JPEG")[:600], "a truncated or damaged JPEG; download it again"),
    "JPEG without its last byte": (lambda: encoded("JPEG")[:-1], "a truncated or damaged JPEG"),
    "PNG, half": (lambda: encoded("PNG")[:100], "a truncated or damaged PNG"),
    "PNG with a wrong checksum": (lambda: encoded("PNG")[:-20] + bytes(20), "a truncated or damaged PNG"),
    "BMP, half": (lambda: encoded("BMP")[:3000], "a truncated or damaged BMP"),
    "TIFF, half": (lambda: encoded("TIFF")[:3000], "a TIFF that is damaged or that OpenCV cannot decode"),
    "TIFF, 32 bits": (lambda: encoded("TIFF", FLOATS), "a TIFF that is damaged or that OpenCV cannot decode"),
    "WebP, half": (lambda: encoded("WEBP")[:300], "a WebP that is damaged or that OpenCV cannot decode"),
    "GIF, half": (lambda: encoded("GIF")[:300], "a GIF that OpenCV cannot decode; convert it"),
    "JPEG 60,000 pixels wide and high": (
        lambda: encoded("JPEG").replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 60_000, 60_000), 1),
        "an image of more than 1,073,741,824 pixels, which OpenCV does not decode; cut it into tiles",
    ),
    "macOS": (lambda: b"\0\x05\x16\x07\0\2\0\0Mac OS X        " + bytes(200), "a file in which macOS keeps attributes"),
    "Git LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "a Git LFS pointer instead of the image; run `git lfs pull`",
    ),
    "git-annex": (lambda: b"/annex/objects/SHA256E-s10--00.jpg\n", "a git-annex pointer instead of the image"),
    "HTML": (lambda: b"\xef\xbb\xbf\r\n<!DOCTYPE html><html>404 Not Found</html>", "an HTML or XML page, such as a"),
    "XML": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an HTML or XML page"),
    "SVG": (lambda: b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing; convert it"),
    "JSON": (lambda: b'{"message": "Not Found"}', "text instead of an image"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "an HEIC, which OpenCV cannot decode"),
    "video": (lambda: b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(500), "a video; save its frames as images"),
    "ZIP": (lambda: b"PK\x03\x04" + bytes(range(256)), "a ZIP archive; unpack it"),
    "random bytes": (lambda: np.random.RandomState(1).bytes(500), "not an image that OpenCV can decode"),
}

"""Decoding gives the pixels that training sees, refuses what training refuses, and says what such a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from dynamic_rcnn.data.pixels import Inspection, image_loader, inspect, read_pixels
from dynamic_rcnn.errors import UserError
from tests.dynamic_rcnn.data.images import HEIGHT, INVALID, VALID, WIDTH

COLOR_TYPES = ("color", "grayscale", "unchanged", "color_ignore_orientation", "grayscale_ignore_orientation")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image.jpg"  # the name says nothing about the format


@pytest.mark.parametrize("name", VALID)
def test_pixels_are_those_of_mmcv(name: str, path: Path) -> None:
    path.write_bytes(VALID[name]())
    for color_type in COLOR_TYPES:
        expected = LoadImageFromFile(color_type=color_type).transform({"img_path": str(path)})["img"]
        found = read_pixels(path, color_type)
        assert found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("name", INVALID)
def test_what_training_refuses_is_refused_and_named(name: str, path: Path) -> None:
    content, expected = INVALID[name]
    path.write_bytes(content())
    with pytest.raises(Exception):  # noqa: B017  an AssertionError, or an error of OpenCV's
        LoadImageFromFile().transform({"img_path": str(path)})
    with pytest.raises(UserError) as error:
        read_pixels(path)
    assert str(error.value).startswith(f"file {path} is {expected}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("JPEG", {}),
        ("JPEG, upside down", {"turned": True}),
        ("JPEG, turned", {"turned": True, "width": HEIGHT, "height": WIDTH}),
        ("PNG, 16 bits", {}),
        ("PNG, 12 of 16 bits", {"almost_black": True}),
        ("TIFF, 12 of 16 bits", {"almost_black": True}),
        ("PNG, animated", {"animated": True}),
        ("GIF, animated", {"animated": True}),
        ("WebP", {}),
        ("WebP, animated", {"animated": True}),
        ("TIFF", {}),
        ("TIFF, several pages", {"animated": True}),
    ],
)
def test_what_decoding_changes_is_reported(name: str, expected: dict[str, Any], path: Path) -> None:
    path.write_bytes(VALID[name]())
    assert inspect(path) == Inspection(**{"width": WIDTH, "height": HEIGHT, **expected})


def test_an_orientation_that_training_ignores_is_not_reported(path: Path) -> None:
    path.write_bytes(VALID["JPEG, turned"]())
    assert inspect(path, "color_ignore_orientation") == Inspection(WIDTH, HEIGHT)


def test_a_missing_file_and_a_folder_cannot_be_read(path: Path, tmp_path: Path) -> None:
    for place, reason in ((path, "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError, match=f"file {place} cannot be read: {reason}"):
            read_pixels(place)


def test_a_file_without_permission_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=f"file {path} cannot be read: Permission denied"):
        inspect(path)


def test_the_loader_of_a_pipeline() -> None:
    assert image_loader([{"type": "LoadImageFromFile"}, {"type": "Resize"}]) == ("color", "cv2")
    other = {"type": "mmdet.LoadImageFromFile", "color_type": "grayscale", "imdecode_backend": "pillow"}
    assert image_loader([{"type": "Resize"}, other]) == ("grayscale", "pillow")
    assert image_loader([]) == ("color", "cv2")

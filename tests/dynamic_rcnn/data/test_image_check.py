"""The check of a split's images: what is refused, sampled, noted and kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.data import image_check
from dynamic_rcnn.data.image_check import ImageReport, check_images
from tests.dynamic_rcnn.data.images import (
    HEIGHT,
    INVALID,
    TURNED_RIGHT,
    UPSIDE_DOWN,
    VALID,
    WIDTH,
    encoded,
    sixteen_bits,
)

PIPELINE = [{"type": "LoadImageFromFile"}]
LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, in the order of the calls."""
    names: list[str] = []
    original = image_check.inspect

    def noted(path: Path, color_type: str) -> Any:
        names.append(path.name)
        return original(path, color_type)

    monkeypatch.setattr(image_check, "inspect", noted)
    return names


class Split:
    """An annotation file and a folder of images in `root`."""

    def __init__(self, root: Path, contents: list[bytes], width: int = WIDTH, height: int = HEIGHT) -> None:
        self.annotations, self.folder = root / "train.json", root / "train"
        self.folder.mkdir()
        images = []
        for number, content in enumerate(contents):
            self.write(number, content)
            images.append({"id": 10 + number, "file_name": f"{number}.jpg", "width": width, "height": height})
        self.annotations.write_text(json.dumps({"images": images, "annotations": [{"x": float("nan")}]}))

    def write(self, number: int, content: bytes, seconds: int = LONG_AGO) -> None:
        path = self.folder / f"{number}.jpg"
        path.write_bytes(content)
        os.utime(path, (seconds, seconds))

    def check(self, every: bool = False, **more: Any) -> ImageReport:
        return check_images(self.annotations, self.folder, PIPELINE, every, **more)


def test_valid_images_pass(tmp_path: Path) -> None:
    report = Split(tmp_path, [VALID["JPEG"](), VALID["PNG, palette"](), VALID["JPEG, CMYK"]()]).check()
    assert (report.problems.count, report.notes) == (0, [])
    assert str(report) == "all 3 decoded; their sizes are as annotated"


def test_every_undecodable_image_is_counted_and_the_first_are_named(tmp_path: Path, capfd: Any) -> None:
    contents = [INVALID[name][0]() for name in ("HTML", "Git LFS", "JPEG, half", "HEIC")]
    split = Split(tmp_path, [VALID["JPEG"](), *contents])
    report = split.check()
    assert report.problems.count == 4
    assert str(report).startswith(f"image 11: file {split.folder / '1.jpg'} is an HTML or XML page")
    assert "image 12: file" in str(report) and "image 13: file" in str(report) and "; and 1 more" in str(report)
    assert capfd.readouterr() == ("", "")  # libjpeg prints "Premature end of JPEG file"


@pytest.mark.parametrize("orientation", [UPSIDE_DOWN, TURNED_RIGHT])
def test_labels_of_images_as_shown_are_right(tmp_path: Path, orientation: int) -> None:
    size = (HEIGHT, WIDTH) if orientation == TURNED_RIGHT else (WIDTH, HEIGHT)
    report = Split(tmp_path, [encoded("JPEG", orientation=orientation), encoded("JPEG")][:1], *size).check()
    assert not report.problems.count
    (note,) = report.notes
    assert note.startswith("1 of 1 images (such as 0.jpg) are turned, because training applies the orientation")


def test_labels_of_images_as_stored_are_refused_if_training_turns_them(tmp_path: Path) -> None:
    report = Split(tmp_path, [encoded("JPEG", orientation=TURNED_RIGHT)]).check()
    assert report.problems.count == 1 and report.notes == []
    assert "0.jpg decodes to 40 x 56, annotated as 56 x 40; training applies the orientation" in str(report)
    assert str(report).endswith("else remove the orientation from the files (exiftool -Orientation=)")


def test_sizes_other_than_annotated_are_refused(tmp_path: Path) -> None:
    report = Split(tmp_path, [VALID["PNG"]()], 2 * WIDTH, 2 * HEIGHT).check()
    assert "decodes to 56 x 40, annotated as 112 x 80; if the boxes fit the images, correct width" in str(report)


@pytest.mark.parametrize(
    ("contents", "problems", "notes"),
    [
        ([sixteen_bits(16)] * 2, 1, 0),
        ([sixteen_bits(16), sixteen_bits(257), encoded("PNG")], 0, 1),
        ([sixteen_bits(257)] * 2, 0, 0),
    ],
)
def test_12_bits_in_16_are_refused_if_most_images_have_them(
    tmp_path: Path, contents: list[bytes], problems: int, notes: int
) -> None:
    report = Split(tmp_path, contents).check()
    assert (report.problems.count, len(report.notes)) == (problems, notes)
    if problems or notes:
        text = " ".join([str(report), *report.notes])
        assert (
            "have 16 bits of which the upper ones are unused" in text and "scale their values and save 8 bits" in text
        )


def test_several_frames_and_another_decoder_are_noted(tmp_path: Path) -> None:
    split = Split(tmp_path, [VALID["GIF, animated"]()])
    other = [{"type": "LoadImageFromFile", "imdecode_backend": "pillow"}]
    report = check_images(split.annotations, split.folder, other)
    assert report.notes == [
        "1 of 1 images (such as 0.jpg) have several frames; training sees the first",
        "they were decoded with OpenCV, but training decodes with imdecode_backend=pillow",
    ]


def test_a_large_split_is_sampled_unless_every_image_is_asked_for(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_check, "SMALL_BYTES", 5000)
    monkeypatch.setattr(image_check, "SAMPLE", 4)
    split = Split(tmp_path, [VALID["JPEG"]()] * 9)
    assert str(split.check()) == (
        "a sample of 4 of 9 decoded; their sizes are as annotated; decode=all decodes every image"
    )
    first = sorted(decoded)
    assert len(first) == 4
    split.check()
    assert sorted(decoded) == first  # the same sample, which is known
    assert str(split.check(every=True)) == "all 9 decoded; their sizes are as annotated"
    assert sorted(decoded) == [f"{number}.jpg" for number in range(9)]
    assert (
        str(split.check()) == "all 9 decoded; their sizes are as annotated"
    )  # all files are cached, so no sample is drawn


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda split: None, []),
        (lambda split: split.write(1, encoded("PNG")), ["1.jpg"]),  # another size
        (lambda split: split.write(1, encoded("JPEG"), LONG_AGO + 1), ["1.jpg"]),
    ],
)
def test_only_files_that_changed_are_decoded_again(
    tmp_path: Path, decoded: list[str], change: Callable[[Split], None], again: list[str]
) -> None:
    split = Split(tmp_path, [encoded("JPEG")] * 3)
    split.check()
    decoded.clear()
    change(split)
    assert split.check().problems.count == 0 and decoded == again


def test_undecodable_and_new_files_are_not_kept(tmp_path: Path, decoded: list[str], cache: Path) -> None:
    """A file that has just been written may change again within the resolution of its time stamp."""
    split = Split(tmp_path, [INVALID["HTML"][0](), VALID["JPEG"](), VALID["JPEG"]()])
    os.utime(split.folder / "2.jpg")
    for _ in range(2):
        assert split.check().problems.count == 1
    assert sorted(decoded) == ["0.jpg", "0.jpg", "1.jpg", "2.jpg", "2.jpg"]
    (kept,) = cache.rglob("*.json")
    assert list(json.loads(kept.read_text())) == ["1.jpg"]


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"0.jpg": 5}', b'{"0.jpg": [1, 2, 3, 4, 5, 6, 7, 8]}', b"\xff"])
def test_a_damaged_cache_is_replaced(tmp_path: Path, cache: Path, content: bytes) -> None:
    split = Split(tmp_path, [VALID["JPEG"]()])
    split.check()
    (kept,) = cache.rglob("*.json")
    expected = kept.read_bytes()
    kept.write_bytes(content)
    assert split.check().problems.count == 0 and kept.read_bytes() == expected


def test_without_a_place_for_the_cache_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert Split(tmp_path, [VALID["JPEG"]()]).check().problems.count == 0


def test_an_interrupted_check_keeps_what_it_has_decoded(
    tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    split = Split(tmp_path, [VALID["JPEG"]()] * 40)
    monkeypatch.setattr(image_check, "_PROGRESS_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        split.check(progress=interrupt)
    decoded.clear()
    split.check()
    assert sorted(decoded) == sorted(f"{number}.jpg" for number in range(40))[32:]


def test_progress_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_check, "_PROGRESS_S", -1.0)
    lines: list[str] = []
    Split(tmp_path, [VALID["JPEG"]()] * 40).check(progress=lines.append)
    assert lines == ["32 of 40 images decoded", "40 of 40 images decoded"]

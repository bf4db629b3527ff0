"""Why an image is not found, as far as the disk shows it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_rcnn.data.missing_files import why_missing

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))


def files(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x")

    return write


@pytest.mark.parametrize(
    ("prepare", "name", "expected"),
    [
        (files("b.jpg"), "a.jpg", ""),
        (files("b.jpg"), "deeper/a.jpg", ""),
        (files("b.jpg"), "a\0.jpg", ""),
        (files("b.jpg"), "x" * 400, ""),
        (lambda folder: (folder / "a.jpg").touch(), "a.jpg", ": it is empty; download it again"),
        (lambda folder: (folder / "a.jpg").mkdir(), "a.jpg", ": it is a folder"),
        (lambda folder: os.mkfifo(folder / "a.jpg"), "a.jpg", ": it is not a regular file"),
        (
            lambda folder: (folder / "a.jpg").symlink_to("/nowhere/a.jpg"),
            "a.jpg",
            ": it is a link to /nowhere/a.jpg, which does not exist",
        ),
        (
            lambda folder: (folder / "a.jpg").symlink_to("a.jpg"),
            "a.jpg",
            ": it is a link to a.jpg, which leads back to itself",
        ),
        (files("a.JPG"), "a.jpg", ": upper and lower case differ from a.JPG"),
        (files("a.png"), "a.jpg", ": there is a.png"),
        (files(DECOMPOSED), COMPOSED, ": its name has another Unicode form on the disk"),
        (files(COMPOSED), DECOMPOSED, ": its name has another Unicode form on the disk"),
        (files("a b.jpg"), "a%20b.jpg", ": file_name is escaped as in a URL; the file is a b.jpg"),
        (files("deeper/a.jpg"), "deeper\\a.jpg", ": file_name must have / instead of \\"),
        (files("a.jpg"), "train/a.jpg", ": file_name repeats the folder train; leave it out"),
    ],
)
def test_what_the_disk_shows(tmp_path: Path, prepare: Callable[[Path], None], name: str, expected: str) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    prepare(folder)
    found = why_missing(folder, name)
    assert found.startswith(expected) and bool(found) == bool(expected)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert why_missing(tmp_path, "a.jpg") == f": the folder {tmp_path} cannot be read: Permission denied"

"""Files of a run directory are complete or absent, and damage is named."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import (
    TRAIN_LOG,
    append_jsonl,
    parse_json,
    read_json,
    read_jsonl,
    truncate_jsonl,
    write_bytes_atomic,
    write_json_atomic,
)
from dynamic_rcnn.run.lock import is_locked, locked


def test_a_torn_last_line_is_dropped_and_any_other_broken_line_is_reported(tmp_path: Path) -> None:
    path = tmp_path / TRAIN_LOG
    assert read_jsonl(path) == []
    append_jsonl(path, {"iteration": 1})
    append_jsonl(path, {"iteration": 2})
    with path.open("a") as file:
        file.write('{"iteration": 3, "lo')
    assert [row["iteration"] for row in read_jsonl(path)] == [1, 2]
    path.write_text('{"iteration": 1}\n{"itera\n{"iteration": 3}\n')
    with pytest.raises(UserError, match=r"train\.jsonl: line 2 is not valid JSON"):
        read_jsonl(path)


def test_truncate_keeps_rows_up_to_the_iteration_and_drops_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / TRAIN_LOG
    truncate_jsonl(path, 3)
    assert not path.exists()
    for iteration in (1, 2, 3, 4):
        append_jsonl(path, {"iteration": iteration, "loss": 0.1 * iteration})
    whole = path.read_text().splitlines()
    with path.open("a") as file:
        file.write('{"iter')
    truncate_jsonl(path, 3)
    assert path.read_text().splitlines() == whole[:3]  # the same digits, not only equal values


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_json_atomic(path, {"old": True})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomic(path, {"new": True})
    assert [item.name for item in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == '{\n "old": true\n}\n'


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        write_bytes_atomic(tmp_path / "small", b"x" * 1000)
        with pytest.raises(OSError) as caught:
            write_bytes_atomic(tmp_path / "large", b"x" * 200_000)
        assert caught.value.errno == errno.ENOSPC
        assert [path.name for path in tmp_path.iterdir()] == ["small"]
        (tmp_path / "filler").write_bytes(b"x" * 60_000)
        with locked(tmp_path):  # a lock needs no space: a run on a full disk can still say why it failed
            assert is_locked(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_json_with_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(tmp_path / "file.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_read_json_reports_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(UserError, match=r"file\.json: missing"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"file\.json: cannot be read \(UnicodeDecodeError"):
        read_json(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"file\.json: cannot be read \(IsADirectoryError"):
        read_json(path)


def test_valid_json_is_parsed() -> None:
    text = '{"a": [1, -2.5, null, true, "\\u00e9\\ud83d\\ude00"], "n": 123456789012345678}'
    assert parse_json(text) == {"a": [1, -2.5, None, True, "é😀"], "n": 123456789012345678}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a":\n1,}', "line 2: "),
        ("9" * 19, "an integer of 19 digits"),
        ("-" + "1" * 6000, "an integer of 6000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('"\\ud800"', "an unpaired surrogate in a string"),
        ('{"\\uDC00": 1}', "an unpaired surrogate in a string"),
    ],
)
def test_json_that_no_record_can_contain_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_json(text)

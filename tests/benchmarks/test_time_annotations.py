"""The timing script draws annotations that pass the check, and prints what it measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import time_annotations
from dynamic_rcnn.errors import UserError


def test_a_small_set(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    assert time_annotations.main([f"folder={root}", "images=40", "boxes=300", "part=masks"]) == 0
    line = r"masks: [\d.]+ s, [\d.]+ s of CPU time, [\d.]+ GB of memory at most \(load [\d.]+\)\n"
    assert re.fullmatch(line, capfd.readouterr().out)
    before = (root / "annotations/train.json").read_bytes()
    for part in time_annotations.PARTS:
        assert time_annotations.main([f"folder={root}", f"part={part}"]) == 0
    assert (root / "annotations/train.json").read_bytes() == before  # drawn once


def test_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder=: must name a folder"):
        time_annotations.main([])
    with pytest.raises(UserError, match=r"unknown part 'parse'; valid: check, digest, masks, read"):
        time_annotations.main([f"folder={tmp_path}", "part=parse"])

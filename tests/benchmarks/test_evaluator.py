"""The timing script at a small size: it prints times, memory and whether metrics are equal; no test asserts a time."""

from __future__ import annotations

import re

import pytest

from benchmarks.evaluator import main
from dynamic_rcnn.errors import UserError


def test_times_memory_and_equality_are_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["images=40", "boxes=200", "categories=5", "detections=1500", "rounds=2"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for evaluator in ("hotcoco", "pycocotools"):
        times = rf"^{evaluator}: [\d.]+ s \([\d.]+ s of CPU time\), and [\d.]+ s of CPU time to load the files; "
        assert re.search(times + r"peak memory [\d.]+ GB, [\d.]+ GB before the evaluation$", out, flags=re.M)
    assert re.search(r"^ratio: [\d.]+% of the time, [\d.]+% of the CPU time$", out, flags=re.M)
    assert re.search(r"^AP 0\.\d+; all metrics are equal to the last bit$", out, flags=re.M)


def test_a_size_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="argument 'images' is 'many'; it must be a whole number"):
        main(["images=many"])

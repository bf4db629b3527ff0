"""The timing script at a small size: it prints times and memory; no test asserts a time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SMALL = ["resamples=30", "workers=2", "models=2", "images=60", "boxes=300", "categories=5", "detections=1500"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.time_bootstrap", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)


def test_times_and_memory_are_printed() -> None:
    done = run(*SMALL, "reference=true")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "draw the ground truth",
        "match model 1",
        "match model 2",
        "evaluate, one area range",
        "30 resamples of 2 models",
    ):
        assert re.search(rf"{part}.*: [\d.]+ s \([\d.]+ s of CPU time\)", done.stdout)
    assert re.search(r"peak memory: [\d.]+ GB here, at most [\d.]+ GB with 2 workers", done.stdout)
    assert re.search(r"^0\.90 of model 1: [\d.]+ with a standard error over images of [\d.]+$", done.stdout, flags=re.M)


def test_a_size_that_is_not_a_number_is_refused() -> None:
    done = run("images=many")
    assert done.returncode == 2
    assert done.stderr == "error: argument 'images' is 'many'; it must be a whole number from 1 to 999999999\n"

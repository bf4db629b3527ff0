"""What is measured between two rows of train.jsonl, by a clock that the tests set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dynamic_rcnn.engine.pace import Pace
from tests.devices import on_devices


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: found.now)
    return found


def batches(clock: Clock, *seconds: float) -> Iterator[list[Any]]:
    """Iterations of two groups of two images, the last one of one image each, that take so long to load."""
    for number, each in enumerate(seconds):
        clock.now += each
        yield [{"inputs": [None] * (1 if number == len(seconds) - 1 else 2)}] * 2


def test_a_row_counts_images_waiting_and_no_evaluation(clock: Clock) -> None:
    pace = Pace(torch.device("cpu"))
    clock.now += 50  # before the first iteration
    rows = []
    for number, _ in enumerate(pace.timed(batches(clock, 3.0, 0.0, 1.0, 0.0)), start=1):
        clock.now += 1.0  # the iteration
        if number % 2 == 0:
            rows.append(pace.row())
        with pace.paused():
            clock.now += 1000
    shown = [[row[name] for name in ("seconds", "data_seconds", "images_per_second")] for row in rows if row]
    assert shown == [[2.5, 1.5, 8 / 5], [1.5, 0.5, 6 / 3]]


@on_devices
def test_the_peak_is_that_of_the_device(device: str, clock: Clock) -> None:
    pace = Pace(torch.device(device))
    for _ in pace.timed(batches(clock, 1.0)):
        torch.ones(25_000_000, device=device).sum().item()  # 100 MB
        row = pace.row()
    assert row is not None and 1e8 < row["peak_bytes"] < 1e11

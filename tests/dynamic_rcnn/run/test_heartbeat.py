"""Heartbeats are bytes on a pipe. They never block and never fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamic_rcnn.run import heartbeat
from dynamic_rcnn.run.process_env import variable


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end that is watched; what the process writes to is in the environment."""
    watched, written = os.pipe()
    os.set_blocking(watched, False)
    monkeypatch.setenv(variable("heartbeat"), str(written))
    monkeypatch.setattr(heartbeat, "_next", 0.0)
    heartbeat._pipe.cache_clear()
    yield watched
    heartbeat._pipe.cache_clear()
    for end in (watched, written):
        try:
            os.close(end)
        except OSError:
            continue


def test_at_most_one_byte_per_second(pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for clock[0] in (1000.0, 1000.1, 1000.9, 1001.1, 1005.0):
        heartbeat.beat()
    assert os.read(pipe, 100) == b"..."


def test_a_full_pipe_and_a_pipe_without_a_reader_are_ignored(pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_INTERVAL_S", 0.0)
    for _ in range(100_000):  # a pipe holds 65,536 bytes
        heartbeat.beat()
    assert len(os.read(pipe, 1_000_000)) == 65_536
    os.close(pipe)
    heartbeat.beat()


def test_without_a_pipe_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable("heartbeat"), raising=False)
    heartbeat._pipe.cache_clear()
    heartbeat.beat()
    assert heartbeat._pipe() is None


@pytest.mark.parametrize("value", ["", "none", "99999"])
def test_a_number_that_is_not_a_descriptor_is_ignored(value: str, pipe: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("heartbeat"), value)
    heartbeat.beat()
    assert heartbeat._pipe() is None


def test_a_file_with_that_number_is_not_written_into(
    pipe: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("wb") as file:
        monkeypatch.setenv(variable("heartbeat"), str(file.fileno()))
        heartbeat.beat()
    assert (tmp_path / "file").read_bytes() == b""

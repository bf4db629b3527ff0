"""Fixtures: a folder of runs, and a Slurm that answers from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm import cli as queue
from tests.experiments.fake_slurm import FakeSlurm, Runs


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm()
    monkeypatch.setattr(queue, "active", fake.active)
    monkeypatch.setattr(queue, "ended", fake.ended)
    monkeypatch.setattr(queue, "max_array_size", fake.max_array_size)
    return fake


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)

"""A fixture with a copy of the configuration files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.config import conf_files
from experiments.launching import local


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the configuration files, to add files to. Nothing can be launched, and HOME is a folder beside it."""
    folder = tmp_path / "conf"
    shutil.copytree(conf_files.CONF, folder)
    monkeypatch.setattr(conf_files, "CONF", folder)
    monkeypatch.delattr(local, "launch")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    conf_files.load.cache_clear()
    yield folder
    conf_files.load.cache_clear()

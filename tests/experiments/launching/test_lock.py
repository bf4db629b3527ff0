"""The launcher's lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import claimed
from dynamic_rcnn.run.lock import RunLockedError, is_locked, locked
from experiments.launching.lock import launcher_folder, launcher_lock
from tests.experiments.fake_slurm import Runs


def test_another_launcher_is_named(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    with (
        launcher_lock(runs.grid, tmp_path),
        pytest.raises(UserError, match=r"^grid=smoke: another launcher is running this grid \(process \d+ on "),
        launcher_lock(runs.grid, tmp_path),
    ):
        pass


def test_a_locked_run_inside_the_launcher_is_not_another_launcher(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.path("dla").mkdir(parents=True)
    with (
        locked(runs.path("dla")),
        pytest.raises(RunLockedError, match="another process is training this run"),
        launcher_lock(runs.grid, tmp_path),
        claimed(runs.path("dla"), patience_s=0.0),
    ):
        pass
    assert not is_locked(launcher_folder(runs.grid, tmp_path))

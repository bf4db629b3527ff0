"""Runs that rerun=stale moves aside come back unless their new runs have begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from dynamic_rcnn.run.files import METRICS, PROVENANCE, write_json_atomic
from experiments.config.compose import resolve
from experiments.launching import local, slurm
from experiments.launching.local_queue import LocalQueue
from slurm import cli, job_arrays
from slurm.cli import QueuedJob, SlurmError
from slurm.job_arrays import UnansweredError
from slurm.submission_record import Submission
from tests.experiments.fake_slurm import ARMS, Runs
from tests.experiments.planning.test_plan import make_done


@pytest.fixture
def stale(tmp_path: Path) -> Runs:
    """The four arms of the smoke grid, all stale."""
    runs = Runs(tmp_path / "runs", f"dataset.root={tmp_path / 'shapes'}", "dataset.recipe.train_images=2")
    make_done(runs.folder, runs.grid)
    for arm in ARMS:
        write_json_atomic(runs.path(arm) / PROVENANCE, {"schema": 1, "code": "0123456789"})
    return runs


def settings(cluster: str) -> DictConfig:
    return resolve(["grid=smoke", "base.pretrain=null", f"cluster={cluster}"])[0].cluster


def restarted_arms(runs: Runs) -> list[str]:
    """The arms whose old directory lies aside."""
    found = [arm for arm in ARMS if list(runs.path(arm).parent.glob("*.stale1"))]
    assert all((runs.path(arm) / METRICS).exists() != (arm in found) for arm in ARMS)
    return found


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_local_runs_that_did_not_start_are_moved_back(
    stale: Runs, error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run(queue: LocalQueue, jobs: list[Any], on_tick: Any) -> None:
        (jobs[0].log.parent).mkdir()
        jobs[0].log.write_text("it has started\n")
        raise error

    monkeypatch.setattr(LocalQueue, "run", run)
    with pytest.raises(type(error)):
        local.launch(stale.grid, stale.folder, settings("local"), "stale", "auto", [])
    assert restarted_arms(stale) == ["baseline"]
    assert capsys.readouterr().out.count("moved back") == 3


class FakeSbatch:
    """Submits the first array, then raises an error; sbatch may have submitted the second one."""

    def __init__(self, error: BaseException | None, queued: str | None) -> None:
        self.error, self.queued = error, queued
        self.names: list[str] = []

    def submit(self, submission: Submission, arrays: Any, profile: Any) -> Iterator[Submission]:
        self.names = [chunk.name for chunk in submission.chunks]
        for index in range(len(arrays)):
            if index == 1 and self.error:
                raise self.error
            submission = submission.with_job(index, str(7 + index))
            submission.write()
            yield submission

    def active(self) -> list[QueuedJob]:
        if self.queued == "no answer":
            raise SlurmError("squeue: no answer")
        return [QueuedJob("8_0", name, "PENDING", "", "") for name in self.names[1:2] if self.queued == "second"]


@pytest.mark.parametrize(
    ("error", "queued", "kept"),
    [
        (None, None, list(ARMS)),
        (OSError(28, "No space left on device"), None, ["baseline", "dla"]),
        (KeyboardInterrupt(), None, ["baseline", "dla"]),
        (KeyboardInterrupt(), "second", list(ARMS)),
        (KeyboardInterrupt(), "no answer", list(ARMS)),
        (SlurmError("sbatch refused job array 2"), None, ["baseline", "dla"]),
        (SlurmError("sbatch refused job array 2"), "no answer", ["baseline", "dla"]),
        (UnansweredError("sbatch may not have submitted job array 2"), None, ["baseline", "dla"]),
        (UnansweredError("sbatch may not have submitted job array 2"), "second", list(ARMS)),
    ],
)
def test_runs_that_were_not_submitted_are_moved_back(
    stale: Runs,
    error: BaseException | None,
    queued: str | None,
    kept: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sbatch = FakeSbatch(error, queued)
    monkeypatch.setattr(job_arrays, "submit", sbatch.submit)
    monkeypatch.setattr(cli, "active", sbatch.active)
    monkeypatch.setattr(cli, "max_array_size", lambda: 2)
    monkeypatch.setattr(slurm, "_report", lambda *arguments: 0)
    if error is None:
        assert slurm.launch(stale.grid, stale.folder, settings("slurm"), "stale", "auto", []) == 0
    else:
        with pytest.raises(SlurmError if isinstance(error, SlurmError) else type(error)) as raised:
            slurm.launch(stale.grid, stale.folder, settings("slurm"), "stale", "auto", [])
        if isinstance(error, SlurmError):
            assert str(raised.value) == f"{error}; arrays that were submitted stay in the queue"
    assert restarted_arms(stale) == kept

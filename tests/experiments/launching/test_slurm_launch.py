"""Launch, cancel and script on a Slurm that answers from memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import FailedJobError

from dynamic_rcnn.run.files import PROVENANCE, write_json_atomic
from experiments.config import choices
from experiments.launching import slurm as launching
from slurm import job_arrays
from slurm.cli import QueuedJob
from slurm.submission_record import read_all
from tests.experiments.fake_slurm import ARMS, FakeSlurm, Runs, job
from tests.experiments.launches import SMALL, Folder
from tests.experiments.planning.test_plan import make_done

ON_SLURM = ("cluster=slurm", "cluster.gpus_per_node=0")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the jobs that sbatch was asked for. Their ids begin at 100."""
    names: list[str] = []

    def sbatch(executor: Any, index: int) -> str:
        names.append(executor.parameters["job_name"])
        return str(99 + len(names))

    monkeypatch.setattr(job_arrays, "_sbatch", sbatch)
    return names


def runs_in(folder: Folder) -> Runs:
    """The runs that `folder` launches, as the record of an earlier submission."""
    return Runs(folder.runs, *SMALL[1:], f"dataset.root={folder.path / 'shapes'}")


def after(seconds: int, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace sleeping by a `change` of the fake Slurm at the given number of seconds."""
    slept: list[float] = []

    def sleep(time: float) -> None:
        slept.append(time)
        if sum(slept) >= seconds:
            change()

    monkeypatch.setattr(launching.time, "sleep", sleep)


def test_nothing_is_written_if_slurm_does_not_answer(folder: Folder, slurm: FakeSlurm, submitted: list[str]) -> None:
    slurm.jobs = None
    code, _out, err = folder.launch(*ON_SLURM)
    assert (code, err) == (2, "error: scontrol: no answer from Slurm (connect failure); try again later\n")
    assert not folder.runs.exists() and submitted == []


def test_what_is_asked_after_the_submission_cannot_fail_it(
    folder: Folder, slurm: FakeSlurm, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sbatch(executor: Any, index: int) -> str:
        slurm.jobs = None
        return "100"

    monkeypatch.setattr(job_arrays, "_sbatch", sbatch)
    code, out, err = folder.launch(*ON_SLURM)
    assert (code, err) == (0, "") and "job 100: 4 runs" in out and "4 queued" in out


def test_an_array_whose_submission_got_no_answer_is_not_submitted_twice(
    folder: Folder, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(executor: Any, command: str) -> None:
        slurm.jobs = [QueuedJob(f"5_{i}", executor.parameters["job_name"], "PENDING", "", "") for i in range(4)]
        raise FailedJobError("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")

    monkeypatch.setattr(job_arrays._ArrayExecutor, "_submit_command", submit)
    code, _, err = folder.launch(*ON_SLURM)
    assert code == 2 and err.startswith("error: sbatch may not have submitted job array 1: no answer from Slurm (")
    code, out, _ = folder.launch(*ON_SLURM)
    assert code == 0 and "4 queued" in out and "nothing was submitted" in out


def test_a_job_that_is_ending_is_waited_for_and_its_run_is_launched(
    folder: Folder, slurm: FakeSlurm, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_in(folder)
    runs.submit()
    slurm.jobs = [job(arm, "COMPLETING") for arm in ARMS]
    after(3, lambda: slurm.jobs.clear() if slurm.jobs else None, monkeypatch)
    code, out, _ = folder.launch(*ON_SLURM)
    assert code == 0 and len(submitted) == 1
    assert "waiting up to 120 s for 4 jobs to end (7_0, 7_1, 7_2)" in out and "job 100: 4 runs" in out


def test_a_job_that_does_not_end_is_named(
    folder: Folder, slurm: FakeSlurm, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_in(folder)
    runs.submit()
    slurm.jobs = [job("dla", "COMPLETING"), *(job(arm, "RUNNING") for arm in ("baseline", "dsl", "both"))]
    monkeypatch.setattr(launching, "_ENDING_S", 0.0)
    code, out, _ = folder.launch(*ON_SLURM)
    assert (code, submitted) == (1, [])
    assert "jobs of dla/seed0 are still ending; launch again when they have left the queue" in out


def test_the_end_of_a_done_run_is_not_waited_for(folder: Folder, slurm: FakeSlurm, submitted: list[str]) -> None:
    runs = runs_in(folder)
    runs.submit()
    make_done(runs.folder, runs.grid)
    slurm.jobs = [job(arm, "COMPLETING") for arm in ARMS]
    assert launching.ending_jobs(runs.grid, runs.folder) == []


def test_a_relaunch_that_submits_nothing_names_settings_without_effect(
    folder: Folder, slurm: FakeSlurm, submitted: list[str]
) -> None:
    runs_in(folder).submit()
    slurm.jobs = [job(arm, "PENDING", "Priority") for arm in ARMS]
    code, out, _ = folder.launch(*ON_SLURM, "cluster.time=60")
    assert (code, submitted) == (0, [])
    line = "nothing was submitted: there is no run to launch; cluster.gpus_per_node=0, cluster.time=60 had no effect"
    assert line in out.splitlines()


@pytest.mark.parametrize("written", ["now", "long ago"])
def test_an_interrupted_launch_is_waited_for_from_its_last_write(
    folder: Folder, slurm: FakeSlurm, submitted: list[str], monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """It began long ago and was killed while sbatch submitted one of its many arrays."""
    runs = runs_in(folder)
    runs.submit(job=None, created=time.time() - 1000)
    (record,) = folder.runs.glob("*/.slurm/*/submission.json")
    if written == "long ago":
        os.utime(record, (time.time() - 1000,) * 2)
    late = [QueuedJob(f"7_{index}", "smoke-None", "PENDING", "", "") for index in range(len(ARMS))]
    after(5, lambda: setattr(slurm, "jobs", late), monkeypatch)
    code, out, _ = folder.launch(*ON_SLURM)
    assert (code, len(submitted)) == (0, 0 if written == "now" else 1)
    assert ("an earlier launch was interrupted" in out) == (written == "now")


def test_sigterm_while_jobs_are_submitted_moves_stale_runs_back(
    folder: Folder, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = runs_in(folder)
    make_done(runs.folder, runs.grid)
    for arm in ARMS:
        write_json_atomic(runs.path(arm) / PROVENANCE, {"schema": 1, "code": "0123456789"})

    def sbatch(executor: Any, index: int) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return "100"

    monkeypatch.setattr(job_arrays, "_sbatch", sbatch)
    code, out, err = folder.launch(*ON_SLURM, "rerun=stale")
    assert (code, err) == (130, "interrupted\n") and out.count("moved back") == 4
    assert all((runs.path(arm) / "metrics.json").exists() for arm in ARMS)


def test_auto_does_not_train_here_what_may_be_in_the_queue(
    folder: Folder, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_in(folder).submit()
    slurm.jobs = None
    monkeypatch.setattr(choices.clusters, "choose_executor", lambda: ("local", "Slurm does not answer"))
    code, _out, err = folder.launch("cluster=auto")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("error: cluster=auto: squeue: no answer from Slurm")
    assert err.endswith("launch again when Slurm answers, or with cluster=local to train them here\n")


def test_plan_and_launch_refuse_the_same_folders(folder: Folder, slurm: FakeSlurm) -> None:
    folder.runs = folder.path / "a%j"
    refused = [folder.launch(*ON_SLURM, f"action={action}") for action in ("plan", "launch", "script")]
    assert len({err for _, _, err in refused}) == 1
    assert all(code == 2 and "cannot write to a folder with '%' in its name" in err for code, _, err in refused)


def test_script_says_what_it_assumes_without_slurm(folder: Folder, slurm: FakeSlurm) -> None:
    slurm.jobs = None
    code, out, err = folder.launch(*ON_SLURM, "action=script")
    assert code == 0 and out.startswith("#!/bin/bash") and err.endswith("one job array can hold all runs\n")


def test_the_users_settings_reach_the_batch_script(
    folder: Folder, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "vision")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    code, out, err = folder.launch(*ON_SLURM, "action=script")
    assert code == 0 and "#SBATCH --account=vision\n" in out
    assert "cluster.account=vision, from SBATCH_ACCOUNT\n" in err and "SBATCH_TIMELIMIT=5 is not used; " in err


def test_cancel_without_slurm_leaves_jobs_alone(
    folder: Folder, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamic_rcnn.run.claim import claimed
    from dynamic_rcnn.run.lock import Holder

    runs = runs_in(folder)
    runs.submit()
    slurm.jobs = None
    with claimed(runs.path("dla"), Holder("node7", 123, "7_1", 0)):
        code, _out, err = folder.launch("cluster=local", "action=cancel")
    assert code == 2 and err.startswith("error: squeue: no answer from Slurm") and "node7" not in err


def test_a_node_on_which_runs_failed_twice_is_left_out_and_named(
    folder: Folder, slurm: FakeSlurm, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    excluded: list[Any] = []

    def sbatch(executor: Any, index: int) -> str:
        excluded.append(executor.parameters["additional_parameters"].get("exclude"))
        return "100"

    monkeypatch.setattr(job_arrays, "_sbatch", sbatch)
    runs = runs_in(folder)
    runs.submit()
    for arm in ("dla", "both"):
        bad = {"bad_node": "node3", "ended": time.time(), "nodes": "node[3-4]"}
        runs.record(arm, "preflight failed", f"7_{ARMS.index(arm)}", attempt=bad)
    code, _, err = folder.launch(*ON_SLURM, "cluster.sbatch={exclude: node9}")
    assert (code, excluded) == (0, ["node9,node3"])
    assert err == (
        "nodes left out for faults in the last 7 days: node3 (2 failures); cluster.exclude_bad_nodes=false uses them\n"
    )


def test_whether_nodes_are_checked_is_in_the_record_of_the_submission(
    folder: Folder, slurm: FakeSlurm, submitted: list[str]
) -> None:
    assert folder.launch(*ON_SLURM, "cluster.preflight=true")[0] == 0
    (record,) = read_all(folder.runs, "shapes_tiny")
    assert record.preflight and record.retries["preflight"] == 2

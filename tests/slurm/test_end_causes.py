"""The cause of an attempt's end, from what Slurm says of its job and nodes."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.parallel.rank import Rank, write_failure
from dynamic_rcnn.run.status import StatusFile
from slurm import cli, end_causes, epilogue
from slurm.attempt import JobTask, start_attempt
from slurm.submission_record import Submission

BEGAN = time.time() - 100
TASK = JobTask(job="7_1", index=1, restart=0, began=BEGAN, rank=0, ranks=1, local_rank=0, nodes="node1")
RUNNING = {"JobState": "RUNNING", "PreemptTime": "None", "Restarts": "0", "EndTime": "Unknown"}
PREEMPTED = {**RUNNING, "PreemptTime": "2026-01-01T10:00:00"}
REQUEUED = {**RUNNING, "JobState": "COMPLETING", "Restarts": "1"}
CANCELLED = {**RUNNING, "JobState": "COMPLETING"}


class Slurm:
    """Says `job` of every job and `node` of every node."""

    def __init__(self) -> None:
        self.job: dict[str, str] = RUNNING
        self.node: dict[str, str] = {"NodeName": "node1", "State": "ALLOCATED"}

    def describe(self, job: str) -> dict[str, str]:
        return self.job

    def describe_nodes(self, nodes: str) -> list[dict[str, str]]:
        return [self.node]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    fake = Slurm()
    monkeypatch.setattr(cli, "describe", fake.describe)
    monkeypatch.setattr(cli, "describe_nodes", fake.describe_nodes)
    return fake


@pytest.fixture
def submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    run_dir = tmp_path / "run"
    (run_dir / "logs").mkdir(parents=True)
    monkeypatch.chdir(run_dir)
    for name, value in TASK.process_env().to_env({}).items():
        monkeypatch.setenv(name, value)
    fixed: dict[str, Any] = {"command": "", "code": "", "trainer": [], "retries": {}, "stall_s": 1.0, "warning_s": 1.0}
    return Submission(folder=tmp_path, runs=str(tmp_path), grid="g", created=0.0, chunks=[], **fixed)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(timespec="seconds")


@pytest.mark.parametrize(
    ("job", "code", "cause"),
    [
        (PREEMPTED, 140, "preempted"),
        (PREEMPTED, 1, "preempted"),
        (REQUEUED, 143, "requeued"),
        (REQUEUED, 1, "requeued"),
        (CANCELLED, 143, "cancelled"),
        (RUNNING, 143, "interrupted"),
        ({**RUNNING, "EndTime": moment(time.time() + 60), "TimeLimit": "1"}, 140, "time-out"),
        (RUNNING, 1, "error"),
    ],
)
def test_a_job_that_ends_while_python_starts(
    slurm: Slurm, submission: Submission, job: dict[str, str], code: int, cause: str
) -> None:
    slurm.job = job
    assert end_causes.cause_of_no_start(TASK, code, submission)[0] == cause
    assert (cause in end_causes.BUDGETS) == (cause != "cancelled")


def test_a_step_that_slurm_no_longer_starts_is_retried(slurm: Slurm, submission: Submission) -> None:
    text = (
        f"{TASK.token} rank 0\nsrun: error: Unable to create step for job 7: Job/step already completing or completed\n"
    )
    (submission.folder / "7_1_0_log.err").write_text(text)
    assert end_causes.cause_of_no_start(TASK, 1, submission)[0] == "node failure"


@pytest.mark.parametrize(
    ("node", "cause"),
    [
        ({}, "error"),
        ({"SlurmdStartTime": moment(BEGAN + 50)}, "error"),  # jobs survive a restart of slurmd
        ({"BootTime": moment(BEGAN + 50)}, "node failure"),
        ({"BootTime": moment(BEGAN - 50)}, "error"),
        ({"State": "DOWN*"}, "node failure"),
    ],
)
def test_an_error_is_not_a_node_failure_after_a_restart_of_slurmd(
    slurm: Slurm, submission: Submission, node: dict[str, str], cause: str
) -> None:
    slurm.node |= node
    record = StatusFile.open(Path())
    start_attempt(record, TASK, None)
    write_failure(Rank(attempt=TASK.token), "error", "rank 0 ended with exit code 3")
    assert end_causes.cause_of_end(record, TASK, 3, submission)[0] == cause


def test_an_attempt_that_vanished_with_its_slurmd_is_a_node_failure(slurm: Slurm, submission: Submission) -> None:
    slurm.node |= {"SlurmdStartTime": moment(time.time() + 5)}
    record = StatusFile.open(Path())
    start_attempt(record, TASK, None)
    end_causes.close_previous(StatusFile.open(Path()), TASK, {"node_failure": 1})
    assert StatusFile.open(Path()).attempts[0].outcome == "node failure"


def test_an_attempt_ends_when_it_last_wrote_not_when_its_end_is_found(
    slurm: Slurm, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_attempt(StatusFile.open(Path()), TASK, None)
    written = StatusFile.open(Path()).heartbeat
    monkeypatch.setattr(time, "time", lambda: BEGAN + 10_000)
    record = StatusFile.open(Path())
    end_causes.close_previous(record, TASK, {"requeued": 1})
    assert record.attempts[0].outcome == "requeued" and record.attempts[0].ended == written


def test_a_job_that_slurm_requeues_itself_needs_no_request(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: str) -> None:
        slurm.job = REQUEUED
        raise cli.SlurmError("scontrol: Job/step already completing or completed")

    monkeypatch.setattr(cli, "requeue", refuse)
    assert epilogue._requeue(TASK) is None


def test_a_failed_preflight_is_the_cause_whatever_other_ranks_report_and_is_retried(
    slurm: Slurm, submission: Submission
) -> None:
    record = StatusFile.open(Path())
    start_attempt(record, TASK, None)
    record.blame("node1")
    record.end("preflight failed", "node1: the matrix product on cuda is wrong")
    write_failure(Rank(number=1, size=2, attempt=TASK.token), "killed", "rank 1 was killed by SIGKILL")
    record = StatusFile.open(Path())
    cause, message = end_causes.cause_of_end(record, TASK, 1, submission)
    assert (cause, message) == ("preflight failed", "node1: the matrix product on cuda is wrong")
    assert end_causes.end_attempt(record, TASK, cause, message, {"preflight": 2}) is None
    assert StatusFile.open(Path()).attempts[-1].bad_node == "node1"

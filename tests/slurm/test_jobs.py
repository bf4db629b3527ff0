"""On a real cluster, every end of a job is recognised, recorded and retried within its limit.

The trainer is a stand-in without torch; tests/slurm/test_training.py uses the real one.
"""

from __future__ import annotations

import sys

import pytest

from slurm import cli as queue
from tests.slurm.jobs import RETRIES, Jobs, fake_trainers_of, wait_until


@pytest.fixture
def jobs(cluster, tmp_path) -> Jobs:
    return Jobs(tmp_path / "runs")


def event(what: str, rank: int = 1, iteration: int = 5, attempts: tuple[int, ...] = (1,)) -> dict:
    return {"what": what, "rank": rank, "iteration": iteration, "attempts": list(attempts)}


def test_ends_of_processes_are_recognised(jobs):
    """Each run has two nodes with two tasks; all runs train at once."""
    runs = [
        jobs.prepare("plain"),
        jobs.prepare("killed", event("kill")),
        jobs.prepare("killed_twice", event("kill", rank=3, attempts=(1, 2))),
        jobs.prepare("error", event("error", rank=2)),
        jobs.prepare("nan", event("nan", rank=0, iteration=7)),
        jobs.prepare("memory", event("memory", rank=2)),
        jobs.prepare("memory_and_killed", event("memory", rank=2), event("kill", attempts=(2,))),
    ]
    submission = jobs.submit(runs)
    stalling = jobs.submit([jobs.prepare("hang", event("hang", rank=0))], stall_minutes=0.25)
    jobs.wait_until_over(submission)
    jobs.wait_until_over(stalling)
    assert jobs.attempts("plain") == [("done", 0, 80)]
    for name, cause in (("killed", "killed"), ("error", "error"), ("hang", "stalled"), ("memory", "out of memory")):
        (first, start, reached), (second, resumed, end) = jobs.attempts(name)
        assert (first, start, second, end) == (cause, 0, "done", 80), name
        assert resumed in (reached, reached - reached % 10), name  # warned ones write a checkpoint where they are
    assert [outcome for outcome, _, _ in jobs.attempts("memory_and_killed")] == ["out of memory", "killed", "done"]
    status = jobs.status("killed_twice")
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["killed", "killed"]
    assert status["message"] == (
        "rank 3 was killed by SIGKILL; retried 1 time, as often as cluster.retries.killed allows"
    )
    assert (status["state"], status["cause"]) == ("failed", "killed")
    assert jobs.status("nan")["message"].endswith("iteration 7; not retried (cluster.retries.nan is 0)")
    assert jobs.attempts("nan") == [("NaN", 0, 6)]
    attempt = jobs.status("killed")["attempts"][0]
    assert attempt["job"] == f"{submission.chunks[0].job}_1" and attempt["restart"] == 0 and attempt["nodes"]
    logs = jobs.runs / runs[3] / "logs"
    assert "an error of the trainer" in (logs / "attempt1.rank2.log").read_text()


@pytest.mark.slow
def test_cancelled_and_requeued(jobs):
    names = ("cancelled", "requeued", "stubborn")
    runs = [jobs.prepare(name, hold_at=16) for name in names[:2]]
    runs.append(jobs.prepare("stubborn", *(event("stubborn", rank=rank) for rank in range(4)), hold_at=16))
    runs.append(jobs.prepare("early", deaf=True))
    submission = jobs.submit(runs)
    wait_until(lambda: all(jobs.iteration(name) == 15 for name in names) and jobs.iteration("early") == 0)
    queue.cancel([f"{submission.chunks[0].job}_{index}" for index in (0, 3)])
    for index in (1, 2):
        queue.requeue(f"{submission.chunks[0].job}_{index}")
    jobs.wait_until_over(submission)
    ((outcome, _, reached),) = jobs.attempts("cancelled")
    assert outcome == "cancelled" and jobs.status("cancelled")["cause"] == "cancelled"
    checkpoint = jobs.runs / runs[0] / "checkpoints" / "iteration.pth"
    assert int(checkpoint.read_text().split()[0]) == reached  # written when it was told to stop
    assert jobs.attempts("early") == [("cancelled", 0, 0)]  # its trainer did not handle signals yet
    (first, _, reached), (second, resumed, end) = jobs.attempts("requeued")
    assert (first, second, resumed, end) == ("requeued", "done", reached, 80)
    (first, _, reached), (second, resumed, end) = jobs.attempts("stubborn")  # killed after KillWait
    assert (first, second, end) == ("requeued", "done", 80) and resumed == reached - reached % 10


def test_preempted(jobs, cluster):
    submission = jobs.submit([jobs.prepare("preempted", hold_at=16)])
    wait_until(lambda: jobs.iteration("preempted") == 15)
    other = ("sbatch", "-p", "high", "--exclusive", f"-N{cluster.layout.nodes}", "-t1", "-o/dev/null", "--wrap=sleep 2")
    queue.ask(*other)
    jobs.wait_until_over(submission)
    (first, _, reached), (second, resumed, end) = jobs.attempts("preempted")
    assert (first, second, resumed, end) == ("preempted", "done", reached, 80)


@pytest.mark.slow
def test_a_node_fails_and_another_loses_contact(jobs, cluster):
    """The node of one run is switched off. That of the other loses contact and goes on: two copies of one run train."""
    off = jobs.submit([jobs.prepare("off", hold_at=16)])
    wait_until(lambda: jobs.iteration("off") == 15)
    elsewhere = {"exclude": jobs.job(off, "off").nodes}
    retries = {**RETRIES, "killed": 3}  # the lost copy's srun, when it gives up, may kill the step of the same name
    lost = jobs.submit([jobs.prepare("lost", hold_at=16)], sbatch=elsewhere, retries=retries)
    wait_until(lambda: jobs.iteration("lost") == 15)
    silent = [int(name.removeprefix("node")) for name in hosts(jobs.job(lost, "lost").nodes)]
    (dark, _) = [int(name.removeprefix("node")) for name in hosts(jobs.job(off, "off").nodes)]
    cluster.node_off(dark)
    for number in silent:
        cluster.slurmd_stop(number)
    place = jobs.runs / "shapes_tiny" / "lost"
    old = place / "seed0-0123456789.lost1"
    wait_until(old.exists)
    cluster.node_on(dark)
    assert fake_trainers_of(old), "the first copy has ended: nothing is tested here"
    jobs.wait_until_over(off)
    jobs.wait_until_over(lost)
    (first, _, _), (second, resumed, end) = jobs.attempts("off")
    assert (first, second, end) == ("node failure", "done", 80) and resumed % 10 == 0
    assert jobs.attempts("lost")[0][0] == "node failure"
    assert jobs.attempts("lost")[-1][::2] == ("done", 80)
    note = next(note for attempt in jobs.status("lost")["attempts"] for note in attempt["notes"])
    assert note.startswith("took over from process ") and note.endswith("its directory is now seed0-0123456789.lost1")
    lines = (place / "seed0-0123456789" / "metrics.json").read_text()
    assert fake_trainers_of(old), "the first copy has ended: nothing is tested here"
    jobs.release("lost")
    wait_until(lambda: not fake_trainers_of(old))  # the first copy trains to its end, in the directory moved aside
    assert (place / "seed0-0123456789" / "metrics.json").read_text() == lines
    for number in silent:
        cluster.slurmd_start(number)


@pytest.mark.slow
def test_the_time_limit(jobs):
    """One run writes its checkpoint when it is warned; the other ignores the warning and is killed."""
    runs = [jobs.prepare("warned", hold_at=16)]
    runs.append(jobs.prepare("stubborn", *(event("stubborn", rank=rank) for rank in range(4)), hold_at=16))
    submission = jobs.submit(runs, time=1)
    jobs.wait_until_over(submission)
    (first, _, reached), (second, resumed, end) = jobs.attempts("warned")
    assert (first, second, resumed, end) == ("time-out", "done", reached, 80)
    job = f"{submission.chunks[0].job}_1"
    assert queue.ended([job]) == {job: "TIMEOUT"} and len(jobs.attempts("stubborn")) == 1  # launching again resumes it


def test_a_run_without_retries(jobs):
    submission = jobs.submit([jobs.prepare("error", event("error"))], retries={**RETRIES, "error": 0}, nodes=1)
    jobs.wait_until_over(submission)
    status = jobs.status("error")
    assert [attempt["outcome"] for attempt in status["attempts"]] == ["error"]
    assert queue.ended([f"{submission.chunks[0].job}_0"]) == {f"{submission.chunks[0].job}_0": "FAILED"}


def hosts(nodes: str) -> list[str]:
    return queue.ask("scontrol", "show", "hostnames", nodes).split()


def test_nothing_is_written_outside_of_the_run_folder(jobs, tmp_path):
    submission = jobs.submit([jobs.prepare("plain", iterations=3)], nodes=1, gpus_per_node=1)
    jobs.wait_until_over(submission)
    assert jobs.attempts("plain") == [("done", 0, 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {".code", "shapes_tiny"}


@pytest.mark.parametrize("how", ["requeued", "preempted"])
def test_a_job_that_is_taken_away_while_python_starts_is_retried(jobs, cluster, how):
    """A container or a slow file system takes seconds to start Python."""
    slow = f"bash -c 'touch {jobs.runs}/starting; sleep 5; exec {sys.executable} \"$@\"' _"
    submission = jobs.submit([jobs.prepare("slow", iterations=10)], nodes=1, gpus_per_node=1, python=slow)
    wait_until((jobs.runs / "starting").exists)
    job = jobs.job(submission, "slow")
    if how == "requeued":
        queue.requeue(job.job)
    else:
        queue.ask("sbatch", "-p", "high", "--exclusive", "-w", job.nodes, "-t1", "-o/dev/null", "--wrap=sleep 2")
    jobs.wait_until_over(submission)
    assert jobs.attempts("slow") == [(how, 0, 0), ("done", 0, 10)]

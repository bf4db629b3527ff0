"""The plan made from the disk and Slurm's queue. Slurm's answers are faked."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import METRICS, PROVENANCE, write_json_atomic
from dynamic_rcnn.run.lock import locked
from experiments import launch
from experiments.launching import slurm as cluster
from experiments.planning.plan import make_plan, plan_or_disk
from slurm.cli import QueuedJob, SlurmError
from tests.experiments.fake_slurm import ARMS, SMOKE, FakeSlurm, Runs, job
from tests.experiments.launches import SMALL, Folder
from tests.experiments.planning.test_plan import make_done


def test_slurm_is_asked_only_if_submitted_runs_are_not_done(runs: Runs, slurm: FakeSlurm) -> None:
    runs.plan()
    make_done(runs.folder, runs.grid)
    runs.submit()
    assert {run.state for run in runs.plan().values()} == {"done"}
    assert slurm.asked == []
    (runs.path("dla") / METRICS).unlink()
    runs.plan()
    assert slurm.asked == ["active"]


def test_runs_have_the_states_of_their_jobs_in_the_queue(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    slurm.jobs = [
        job("baseline", "PENDING", "Resources"),
        job("dla", "RUNNING", nodes="node[1-2]"),
        job("dsl", "CONFIGURING", nodes="node3"),
        job("both", "SUSPENDED", nodes="node4"),
        QueuedJob("9_0", "other-9", "RUNNING", "", "node9"),
    ]
    runs.record("baseline", "preempted", "7_0")
    plan = runs.plan()
    assert {arm: (run.state, run.why) for arm, run in plan.items()} == {
        "baseline": ("queued", "Resources, after attempt 1: preempted"),
        "dla": ("running", ""),
        "dsl": ("running", ""),
        "both": ("running", "Slurm: suspended"),
    }
    assert [(run.job, run.node) for run in plan.values()] == [
        ("7_0", None),
        ("7_1", "node[1-2]"),
        ("7_2", "node3"),
        ("7_3", "node4"),
    ]
    assert not any(run.to_launch for run in plan.values())
    assert slurm.asked == ["active"]


def test_a_job_whose_id_was_not_recorded_is_found_by_its_name(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit(job=None)
    slurm.jobs = [QueuedJob("7_1", "smoke-None", "RUNNING", "", "node1")]
    plan = runs.plan()
    assert (plan["dla"].state, plan["dla"].job, plan["dsl"].state) == ("running", "7_1", "new")


@pytest.mark.parametrize(
    ("ended", "cause"),
    [
        ("TIMEOUT", "time-out"),
        ("CANCELLED", "cancelled"),
        ("NODE_FAIL", "node failure"),
        ("OUT_OF_MEMORY", "out of memory"),
        ("PREEMPTED", "preempted"),
        ("FAILED", "killed"),
        ("COMPLETED", "killed"),
        (None, "killed"),
    ],
)
def test_a_job_that_left_the_queue_without_a_status_has_failed(
    runs: Runs, slurm: FakeSlurm, ended: str | None, cause: str
) -> None:
    runs.submit()
    slurm.jobs = [job(arm, "PENDING") for arm in ("baseline", "dsl", "both")]
    slurm.ends = {"7_1": ended} if ended else {}
    runs.record("dla", None, "7_1")  # the status says running, but nobody holds the lock
    run = runs.plan()["dla"]
    assert (run.state, run.cause, run.job, run.to_launch) == ("failed", cause, "7_1", True)
    expected = f"its state in Slurm is {ended}" if ended else "Slurm no longer knows how it ended"
    assert run.why == f"{cause}: job 7_1 left the queue; {expected}"
    assert slurm.asked == ["active", ["7_1"]]


def test_jobs_that_ended_before_they_began_have_failed(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    slurm.ends = {"7_0": "CANCELLED", "7_1": "COMPLETED"}  # moved aside since: rerun=stale
    (folder,) = runs.folder.glob("*/.slurm/*")
    (folder / "7_2_0_log.out").touch()  # dsl's has started, that of both has not
    plan = {arm: run.why for arm, run in runs.plan().items()}
    assert plan == {
        "baseline": "cancelled: job 7_0 left the queue before the run began; its state in Slurm is CANCELLED",
        "dla": "",
        "dsl": "unknown: job 7_2 left the queue before the run began; Slurm no longer knows how it ended",
        "both": "cancelled: job 7_3 left the queue before the run began; Slurm no longer knows how it ended",
    }
    assert slurm.asked == ["active", ["7_0", "7_1", "7_2", "7_3"]]  # Slurm was asked in one call


def test_a_job_whose_output_cannot_be_written_hints_at_the_file_system(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    slurm.ends = {"7_0": "FAILED", "7_1": "FAILED"}
    (folder,) = runs.folder.glob("*/.slurm/*")
    (folder / "7_0_0_log.out").touch()
    plan = runs.plan()
    end = "left the queue before the run began; its state in Slurm is FAILED"
    assert plan["baseline"].why == f"error: job 7_0 {end}"
    hint = "it wrote no output: the nodes must see the run folder and the code (a shared file system)"
    assert plan["dla"].why == f"error: job 7_1 {end}; {hint}"


def test_held_jobs_say_how_they_are_released(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    reason = "launch failed requeued held"
    slurm.jobs = [job(arm, "PENDING", reason if arm == "dla" else "Resources") for arm in ARMS]
    plan = runs.plan()
    assert (plan["dla"].state, plan["dla"].why) == ("queued", f"{reason}: held until `scontrol release 7_1`")
    assert plan["dsl"].why == "Resources"


def test_a_done_run_without_its_results_is_reported(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    make_done(runs.folder, runs.grid)
    runs.record("dla", "done", "7_1")
    (runs.path("dla") / METRICS).unlink()
    slurm.ends = {"7_1": "COMPLETED"}
    run = runs.plan()["dla"]
    assert (run.state, run.cause, run.to_launch) == ("failed", "no results", True)
    assert run.message is not None and run.message.startswith("metrics.json is missing although status.json says")


def test_the_record_takes_precedence_over_the_job(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit(created=time.time() - 60)
    runs.record("baseline", "NaN", "7_0")
    runs.record("dla", None, None)  # a local run after the job, which was killed
    runs.record("dsl", None, None, attempt={"started": time.time() - 600})  # a local run before the job
    runs.record("both", None, "6_3", attempt={"started": time.time() - 600})  # an earlier job
    slurm.ends = {"7_2": "CANCELLED", "7_3": "TIMEOUT"}
    plan = runs.plan()
    assert [plan[arm].cause for arm in ARMS] == ["NaN", "killed", "cancelled", "time-out"]
    assert slurm.asked == ["active", ["7_2", "7_3"]]


def test_a_run_that_this_machine_trains_is_running_whatever_happened_to_its_job(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    with locked(runs.path("dla")):
        run = runs.plan()["dla"]
    assert (run.state, run.in_queue) == ("running", False)


def test_states_are_those_on_disk_if_slurm_does_not_answer(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    runs.submit()
    runs.record("dla", "NaN", "7_1")
    slurm.jobs = None
    with pytest.raises(SlurmError):
        make_plan(runs.grid, runs.folder)
    plan, slurm_error = plan_or_disk(runs.grid, runs.folder)
    assert [run.state for run in plan] == ["new", "failed", "new", "new"]
    line = "squeue: no answer from Slurm within 30 s; try again later; states are those on disk, without the queue"
    assert slurm_error == line
    for action in ("status", "plan"):
        assert launch.main([*SMOKE, f"runs={runs.folder}", f"action={action}"]) == 0
        captured = capsys.readouterr()
        assert captured.out.count(line) == 1 and captured.err == ""


@pytest.mark.parametrize(("minutes", "why"), [(29, ""), (31, "no progress for 31 minutes")])
def test_a_run_without_progress_is_noted(runs: Runs, slurm: FakeSlurm, minutes: int, why: str) -> None:
    runs.submit()
    slurm.jobs = [job(arm, "RUNNING") for arm in ARMS]
    old = time.time() - 60 * minutes
    runs.record("dla", None, "7_1", heartbeat=old)
    runs.record("dsl", "time-out", "7_2", heartbeat=old)  # the next attempt of this job is only beginning
    runs.record("both", None, "6_3", heartbeat=old)  # an earlier job's
    plan = runs.plan()
    assert [plan[arm].why for arm in ARMS] == ["", why, "", ""]
    slurm.jobs = []
    with locked(runs.path("dla")):
        assert runs.plan()["dla"].why == why


def test_a_corrupt_record_stays_corrupt(runs: Runs, slurm: FakeSlurm) -> None:
    runs.submit()
    (runs.path("dla") / "spec.json").write_text("{")
    slurm.jobs = [job("dla", "RUNNING", nodes="node1")]
    run = runs.plan()["dla"]
    assert (run.state, run.corrupt, run.job) == ("failed", True, "7_1")


def test_status_shows_jobs_and_where_logs_are(runs: Runs, slurm: FakeSlurm, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    runs.submit()
    runs.record("dla", "NaN", "7_1")
    slurm.jobs = [job("baseline", "PENDING", "Priority"), job("dsl", "RUNNING", nodes="node[1-2]")]
    slurm.ends = {"7_3": "CANCELLED"}
    assert launch.main([*SMOKE, f"runs={runs.folder}", "action=status"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " ".join(rows["run"].split()[:5]) == "run state job node iteration"
    assert "queued   7_0" in rows["baseline/seed0"] and "Priority" in rows["baseline/seed0"]
    assert "running  7_2  node[1-2]" in rows["dsl/seed0"]
    _, log = rows["dla/seed0"].split("NaN; log: ")
    assert Path(log).resolve() == runs.path("dla") / "logs" / "attempt1.log"
    assert "cancelled: job 7_3 left the queue before the run began" in rows["both/seed0"]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_narrow_status_says_why_runs_failed_or_are_held(
    runs: Runs, slurm: FakeSlurm, capsys: Any, monkeypatch: Any, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    runs.submit()
    runs.record("dla", "NaN", "7_1", message="the loss is not finite")
    slurm.jobs = [job("dsl", "PENDING", "JobHeldUser"), *(job(arm, "RUNNING") for arm in ("baseline", "both"))]
    runs.path("dla").with_name(runs.path("dla").name + ".lost1").mkdir()
    assert launch.main([*SMOKE, f"runs={runs.folder}", "action=status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("directories of lost copies (.lost1 and so on): 1; ")
    assert (
        lines[-4:-1]
        == [
            "dla/seed0: failed: NaN: the loss is not finite",
            "action=logs shows the ends of their logs; launching again resumes them",
            "dsl/seed0: queued: JobHeldUser: held until `scontrol release 7_2`",
        ]
        or width == 200
    )
    assert "NaN: the loss is not finite" in "\n".join(lines)


def test_watching_ends_when_nothing_is_queued_or_running(
    runs: Runs, slurm: FakeSlurm, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.submit()
    slurm.jobs = [job("dla", "PENDING", "Priority")]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        slurm.jobs = [[job("dla", "RUNNING")], []][len(slept) - 1]

    monkeypatch.setattr(launch.time, "sleep", sleep)
    assert launch.main([*SMOKE, f"runs={runs.folder}", "action=status", "watch=true"]) == 0
    out = capsys.readouterr().out
    assert slept == [10.0, 10.0]
    assert [out.count(f"dla/seed0       {state}") for state in ("queued", "running", "failed")] == [1, 1, 1]


def test_status_prints_one_json_document(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    runs.submit()
    runs.record("dla", "NaN", "7_1", message="the loss is not finite")
    slurm.jobs = [job("dsl", "RUNNING", nodes="node1")]
    slurm.ends = {"7_0": "CANCELLED"}
    for action in ("status", "plan"):
        assert launch.main([*SMOKE, f"runs={runs.folder}", f"action={action}", "json=true"]) == 0
        captured = capsys.readouterr()
        document = json.loads(captured.out)  # stdout contains only the document
        assert document["schema"] == 1 and document["slurm"] is None and document["grid"] == "smoke"
        assert document["counts"] == {"new": 0, "stale": 0, "failed": 3, "queued": 0, "running": 1, "done": 0}
        by_arm = {run["arm"]: run for run in document["runs"]}
        assert by_arm["dla"]["cause"] == "NaN" and by_arm["dla"]["message"] == "the loss is not finite"
        assert by_arm["dla"]["log"] == str(runs.path("dla") / "logs/attempt1.log")
        assert (by_arm["dsl"]["job"], by_arm["dsl"]["node"], by_arm["dsl"]["percent"]) == ("7_2", "node1", 0.0)
        assert by_arm["baseline"]["cause"] == "cancelled"
        assert ("cost" in document) == (action == "plan")
    slurm.jobs = None
    launch.main([*SMOKE, f"runs={runs.folder}", "action=status", "json=true"])
    assert "no answer from Slurm" in json.loads(capsys.readouterr().out)["slurm"]


def test_a_local_launch_does_not_train_queued_runs(
    runs: Runs, slurm: FakeSlurm, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.submit()
    slurm.jobs = [job(arm, "PENDING", "Priority") for arm in ARMS]
    monkeypatch.chdir(runs.folder)
    assert launch.main([*SMOKE, f"runs={runs.folder}", "action=launch"]) == 1
    out = capsys.readouterr().out
    assert "to go" not in out
    assert "4 of 4 runs are in Slurm's queue, not started here" in out


def test_a_local_launch_reports_once_that_slurm_does_not_answer(slurm: FakeSlurm, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    Runs(folder.runs, *SMALL[1:]).submit()
    slurm.jobs = None
    code, out, err = folder.launch("arms=[dla]")
    assert code == 0 and "1 run to go" in out
    assert err.count("no answer from Slurm") == err.count("\n") == 1
    assert slurm.asked == ["active"]


@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("stale", ["both", "dla"])
def test_runs_that_queued_runs_may_need_are_not_run_again(
    tmp_path: Path, slurm: FakeSlurm, stale: str, queued: bool
) -> None:
    switch = "model.train_cfg.rcnn.dynamic_rcnn.smooth_l1"
    runs = Runs(tmp_path, "++grid.arms.dsl.replay=both", f"++grid.arms.dsl.set={{{switch}: false}}")
    runs.submit()
    make_done(tmp_path, runs.grid)
    (runs.path("dsl") / METRICS).unlink()
    write_json_atomic(runs.path(stale) / PROVENANCE, {"schema": 1, "code": "0123456789"})
    slurm.jobs = [job("dsl", "PENDING", "Priority")] if queued else []
    refused = pytest.raises(SlurmError, match=r"both/seed0 is stale, and runs in the queue may need it")
    with refused if queued and stale == "both" else contextlib.nullcontext():
        cluster._refuse_restart_of_needed(runs.grid, tmp_path, make_plan(runs.grid, tmp_path), "stale")

"""action=logs prints the end of each log that shows how a run failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import write_json_atomic
from experiments import launch
from experiments.views import logs
from tests.experiments.fake_slurm import SMOKE, FakeSlurm, Runs, job
from tests.experiments.launches import Folder


def write_logs(path: Path, *names: str) -> None:
    (path / "logs").mkdir(exist_ok=True)
    for name in names:
        (path / "logs" / name).write_text("".join(f"{name} line {number}\n" for number in range(100)))


def shown(runs: Runs, capsys: Any, *arguments: str) -> str:
    assert launch.main([*SMOKE, f"runs={runs.folder}", "action=logs", *arguments]) == 0
    return str(capsys.readouterr().out)


def headings(out: str) -> list[str]:
    return [line.rpartition("/")[2] for line in out.splitlines() if line.startswith("==> ")]


def fail(runs: Runs, ranks: Sequence[int], token: str = "7_1.0") -> None:
    """Write a failed second attempt of dla with four ranks, of which `ranks` recorded a failure."""
    runs.submit()
    runs.record("dla", "error", "7_1", attempt={"restart": 0, "log": "logs/attempt2.log"})
    first = [f"attempt1{rank}.log" for rank in ("", ".rank1")]
    write_logs(runs.path("dla"), *first, *(f"attempt2{rank}.log" for rank in ("", ".rank1", ".rank2", ".rank3")))
    for rank in ranks:
        note = {"schema": 1, "attempt": token, "cause": "error", "message": "x"}
        write_json_atomic(runs.path("dla") / "logs" / f"failure.rank{rank}.json", note)


def test_the_ends_of_the_logs_of_failed_ranks_are_printed(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    slurm.jobs = [job(arm, "PENDING") for arm in ("baseline", "dsl", "both")]
    fail(runs, ranks=[2])
    out = shown(runs, capsys)
    assert out.startswith("dla/seed0: failed: error\n==> ")
    assert headings(out) == ["attempt2.log", "attempt2.rank2.log"]
    assert out.count("    attempt2.rank2.log line ") == 40 and "attempt2.rank2.log line 99\n" in out
    assert shown(runs, capsys, "run=dla/seed0", "lines=3").count("    attempt2") == 6


def test_all_ranks_are_printed_if_none_recorded_a_failure(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    slurm.jobs = [job(arm, "PENDING") for arm in ("baseline", "dsl", "both")]
    fail(runs, ranks=[1], token="7_1.9")  # recorded in another attempt
    assert headings(shown(runs, capsys)) == ["attempt2.log", *(f"attempt2.rank{rank}.log" for rank in (1, 2, 3))]


def test_the_output_of_the_job_is_printed_if_no_attempt_started(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    runs.submit()
    slurm.ends = {"7_1": "FAILED"}
    slurm.jobs = [job(arm, "PENDING") for arm in ("baseline", "dsl", "both")]
    (folder,) = runs.folder.glob("*/.slurm/*")
    for name, text in {"7_1_0_log.out": "", "7_1_0_log.err": "module: not found\n", "7_2_0_log.err": "x\n"}.items():
        (folder / name).write_text(text)
    out = shown(runs, capsys)
    assert headings(out) == ["7_1_0_log.err"] and "    module: not found" in out
    assert "dla/seed0: failed: error: job 7_1 left the queue before the run began; its state in Slurm is FAILED" in out


def test_the_output_of_the_job_is_printed_if_srun_failed(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    runs.submit()
    slurm.jobs = [job(arm, "PENDING") for arm in ("baseline", "dsl", "both")]
    runs.record("dla", "error", "7_1", attempt={"log": None})  # the epilogue recorded an attempt without a trainer
    (folder,) = runs.folder.glob("*/.slurm/*")
    (folder / "7_1_0_log.err").write_text("srun: error: execve(): no such file\n")
    out = shown(runs, capsys)
    assert headings(out) == ["7_1_0_log.err"] and "execve(): no such file" in out


def test_a_run_that_has_not_failed_can_be_named(runs: Runs, slurm: FakeSlurm, capsys: Any) -> None:
    assert shown(runs, capsys) == "no run of this grid has failed; run=ARM/seedN shows the log of any other\n"
    assert shown(runs, capsys, "run=dla/seed0") == "dla/seed0: new\n    no log: no attempt has started\n"
    runs.record("dla", "done", None)
    write_logs(runs.path("dla"), "attempt1.log")
    assert headings(shown(runs, capsys, "run=dla/seed0")) == ["attempt1.log"]


def test_logs_of_runs_that_failed_on_this_machine(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.launch("arms=[dla,dsl]", dla={"fail": 7}, dsl={"crash": True})
    out = folder.launch("action=logs", "arms=[dla,dsl]")[1]
    assert "dla/seed0: failed: NaN: the loss is not finite at iteration 7" in out
    assert f"==> {folder.run('dla') / 'logs' / 'attempt1.log'}\n" in out and "    about to fail\n" in out
    out = folder.launch("action=logs", "run=dsl/seed0")[1]
    assert "ImportError: no module named torch" in out


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_TAIL_BYTES", 20)
    (tmp_path / "log").write_text("\n".join(f"line {number}" for number in range(1000)))
    assert logs.tail(tmp_path / "log", 40)[-2:] == ["line 998", "line 999"]
    assert len(logs.tail(tmp_path / "log", 40)) <= 3

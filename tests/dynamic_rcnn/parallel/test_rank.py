"""The rank of a process, the failures that processes record, and the parent that starts them. Without torch."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel import processes as spawn
from dynamic_rcnn.parallel.rank import Failure, Rank, read_failures, write_failure
from dynamic_rcnn.run.files import read_json, write_json_atomic
from dynamic_rcnn.run.status import StatusFile


def environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "DYNAMIC_RCNN_CLAIMED", "DYNAMIC_RCNN_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


NUMBERS = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
HELD = {"DYNAMIC_RCNN_CLAIMED": "1", "DYNAMIC_RCNN_ATTEMPT": "123_4.0"}


def test_the_rank_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch)
    assert Rank.from_env() is None
    environment(monkeypatch, **NUMBERS, **HELD)
    rank = Rank.from_env()
    assert rank == Rank(1, 2, 1, "123_4.0")
    rank.check(2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**NUMBERS, **HELD, "WORLD_SIZE": "4"}, "WORLD_SIZE=4: this run has base.train.processes=2; start as many"),
        ({**NUMBERS, **HELD, "RANK": "2"}, "RANK=2: must be below WORLD_SIZE, which is 2"),
        ({**NUMBERS, **HELD, "RANK": "one"}, "RANK=one: must be a number if RANK is set"),
        ({"RANK": "0"}, "WORLD_SIZE=None: must be a number if RANK is set; or unset all of RANK, WORLD_SIZE"),
        (NUMBERS, "RANK=1: set without DYNAMIC_RCNN_CLAIMED and DYNAMIC_RCNN_ATTEMPT"),
        ({**NUMBERS, "DYNAMIC_RCNN_CLAIMED": "1"}, "RANK=1: set without DYNAMIC_RCNN_CLAIMED and"),
    ],
)
def test_an_inconsistent_environment_is_reported(monkeypatch: pytest.MonkeyPatch, values: Any, message: str) -> None:
    environment(monkeypatch, **values)
    with pytest.raises(UserError) as caught:
        rank = Rank.from_env()
        assert rank is not None
        rank.check(2)
    assert str(caught.value).startswith(message)


def test_only_failures_of_the_attempt_are_read(run_dir: Path) -> None:
    write_failure(Rank(10, 16, 2, "7_0.0"), "error", "RuntimeError: x")
    write_failure(Rank(3, 16, 3, "7_0.0"), "NaN", "the loss is not finite at iteration 3")
    write_failure(Rank(1, 16, 1, "7_0.1"), "error", "of another attempt")
    Path("logs/failure.rank2.json").write_text('{"schema": 1, "attempt": "7_0.0", "ca')
    assert read_failures(run_dir, "7_0.0") == [
        Failure(3, "NaN", "the loss is not finite at iteration 3"),
        Failure(10, "error", "RuntimeError: x"),
    ]
    content = read_json(Path("logs/failure.rank3.json"))
    assert (content["schema"], content["attempt"], content["cause"]) == (1, "7_0.0", "NaN")


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run directory as working directory, whose record has one earlier attempt up to iteration 7."""
    environment(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spawn, "GRACE_S", 0.5)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    record = StatusFile(Path(), 20)
    record.start(0)
    record.progress(7)
    record.end("killed", "an earlier one")
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


BEGIN = """
import os, sys, time, json, signal
from pathlib import Path
rank = int(os.environ["RANK"])
Path(f"pid{rank}.tmp").write_text(str(os.getpid()))
Path(f"pid{rank}.tmp").rename(f"pid{rank}")

def wait_for_end_of(other):
    while not Path(f"pid{other}").exists():
        time.sleep(0.01)
    process = Path("/proc") / Path(f"pid{other}").read_text()
    while process.exists() and "State:\tZ" not in (process / "status").read_text():
        time.sleep(0.01)

"""


def trained_by(monkeypatch: pytest.MonkeyPatch, code: str) -> int:
    """The exit code of a parent whose two processes run `code` after BEGIN."""
    monkeypatch.setattr(spawn, "TRAINER", [sys.executable, "-c", BEGIN + code])
    return spawn.run_processes(2, None)


def ended() -> tuple[int, str, str, int]:
    """(attempts, cause, message, iteration) of the status."""
    status = read_json(Path("status.json"))
    return len(status["attempts"]), status["cause"], status["message"], status["iteration"]


def test_processes_get_their_environment(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setenv("DYNAMIC_RCNN_HEARTBEAT", "99")  # a number that means nothing to the children
    monkeypatch.delenv("DYNAMIC_RCNN_HEARTBEAT")
    assert trained_by(monkeypatch, "Path(f'{rank}.json').write_text(json.dumps(dict(os.environ)))") == 0
    seen = [json.loads((run_dir / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [each["RANK"] for each in seen] == [each["LOCAL_RANK"] for each in seen] == ["0", "1"]
    for each in seen:
        assert (each["WORLD_SIZE"], each["DYNAMIC_RCNN_CLAIMED"], each["OMP_NUM_THREADS"]) == ("2", "1", "3")
        assert each["PYTHONPATH"].split(os.pathsep)[0] == str(Path(spawn.__file__).parents[2])
    assert seen[0]["DYNAMIC_RCNN_ATTEMPT"] == seen[1]["DYNAMIC_RCNN_ATTEMPT"] != ""


def test_only_rank_0_has_the_watched_pipe(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, written = os.pipe()
    monkeypatch.setenv("DYNAMIC_RCNN_HEARTBEAT", str(written))
    code = "pipe = os.environ.get('DYNAMIC_RCNN_HEARTBEAT')\nif pipe: os.write(int(pipe), str(rank).encode())"
    assert trained_by(monkeypatch, code) == 0
    assert os.read(watched, 10) == b"0"
    os.close(watched)
    os.close(written)


def test_a_process_that_fails_ends_the_others_and_is_reported(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained_by(monkeypatch, "sys.exit(7) if rank else time.sleep(3600)") == 1
    assert ended() == (2, "error", "rank 1 ended with exit code 7; see the log", 7)


def test_a_killed_process_is_reported(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "os.kill(os.getpid(), signal.SIGKILL) if rank else (wait_for_end_of(1), sys.exit(76))"
    assert trained_by(monkeypatch, code) == 1
    message = (
        "rank 1 was killed by signal 9 (often sent by the kernel when memory runs out); relaunching resumes the run"
    )
    assert ended() == (2, "killed", message, 7)


def test_the_failure_that_a_process_wrote_is_recorded(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from dynamic_rcnn.parallel.rank import Rank, write_failure\n"
        "if rank: write_failure(Rank.from_env(), 'out of memory', 'MemoryError: none left'); sys.exit(1)\n"
        "wait_for_end_of(1); sys.exit(76)"
    )
    assert trained_by(monkeypatch, code) == 1
    assert ended() == (2, "out of memory", "rank 1: MemoryError: none left", 7)


def test_the_record_of_rank_0_is_kept(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from dynamic_rcnn.run.status import StatusFile\n"
        "if rank: wait_for_end_of(0); sys.exit(1)\n"
        "record = StatusFile(Path(), 20); record.start(8); record.end('bad input', 'its own words'); sys.exit(2)"
    )
    assert trained_by(monkeypatch, code) == 2
    assert ended() == (2, "bad input", "its own words", 8)


def test_a_signal_during_startup_is_an_interruption(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained_by(monkeypatch, "if rank: os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(3600)") == 130
    assert ended() == (2, "interrupted", "stopped by a signal while it was starting", 7)


def test_a_run_that_another_attempt_took_over_is_left_alone(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path("status.json").read_bytes()
    assert trained_by(monkeypatch, "sys.exit(76 if rank else 75)") == 75
    assert Path("status.json").read_bytes() == before


def test_a_note_on_the_claim_reaches_the_processes(run_dir: Path) -> None:
    from dynamic_rcnn.run.claim import Claim

    rank = Rank(0, 2, 0, "x")
    assert spawn._environment(rank, Claim(3, "took over"), None)["DYNAMIC_RCNN_NOTE"] == "took over"
    assert "DYNAMIC_RCNN_NOTE" not in spawn._environment(rank, Claim(3, None), None)


def test_attempts_record_their_job(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json_atomic(Path("status.json"), {"schema": 1})
    StatusFile(Path(), 20).start(0)
    jobs = [(each["job"], each["restart"], each["nodes"]) for each in read_json(Path("status.json"))["attempts"]]
    assert jobs == [(None, None, None)]
    for name, value in (("JOB", "123_4"), ("RESTART", "2"), ("NODES", "node[1-2]")):
        monkeypatch.setenv(f"DYNAMIC_RCNN_{name}", value)
    StatusFile(Path(), 20).start(0)
    last = read_json(Path("status.json"))["attempts"][-1]
    assert (last["job"], last["restart"], last["nodes"]) == ("123_4", 2, "node[1-2]")

"""The run directory: states from disk, locks held by real processes, and files that are complete or absent."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import directory
from dynamic_rcnn.run.directory import (
    CORRUPT,
    METRICS,
    SPEC,
    STATUS,
    TRAIN_LOG,
    RunLockedError,
    append_jsonl,
    is_locked,
    lock_holder,
    locked,
    read_json,
    read_jsonl,
    read_state,
    truncate_jsonl,
    write_bytes_atomic,
    write_json_atomic,
)

HOLD = """
import sys
from pathlib import Path
from dynamic_rcnn.run.directory import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def write_status(run: Path, **fields: object) -> None:
    status = {"schema": 1, "state": "running", "iteration": 7, "max_iterations": 20, "cause": None, "message": None}
    write_json_atomic(run / STATUS, {**status, **fields})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_json_atomic(tmp_path / SPEC, {"schema": 1})
    return tmp_path


def test_absent_without_a_directory_or_before_the_first_attempt(tmp_path: Path, run: Path) -> None:
    assert read_state(tmp_path / "nothing").name == "absent"
    assert read_state(run).name == "absent"


def test_running_while_another_process_holds_the_lock_and_killed_after(run: Path) -> None:
    write_status(run)
    with lock_held_by_another_process(run) as process:
        state = read_state(run)
        assert (state.name, state.iteration, state.max_iterations) == ("running", 7, 20)
        assert lock_holder(run) == (socket.gethostname(), process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = read_state(run)
    assert (state.name, state.cause) == ("failed", "killed")
    assert lock_holder(run) is None


def test_running_before_the_first_status(run: Path) -> None:
    with lock_held_by_another_process(run):
        assert read_state(run).name == "running"
    assert read_state(run).name == "absent"


def test_failed_with_its_cause(run: Path) -> None:
    write_status(run, state="failed", cause="NaN", message="the loss is not finite at iteration 3")
    state = read_state(run)
    assert (state.name, state.cause, state.message) == ("failed", "NaN", "the loss is not finite at iteration 3")


def test_done_means_valid_metrics_whatever_the_status_says(run: Path) -> None:
    write_status(run, state="failed", cause="error")
    write_json_atomic(run / METRICS, {"schema": 1, "metrics": {"AP": 0.25, "AP90": None}})
    assert read_state(run).name == "done"
    (run / STATUS).write_text("{")
    assert read_state(run).name == "done"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"not valid JSON"),
        ('{"schema": 1, "metrics": {"AP": 0.', r"not valid JSON"),
        ("[1]", r"no file of this suite"),
        ('{"metrics": {"AP": 0.5, "AP90": 0.5}}', r"no file of this suite"),
        ('{"schema": 2, "metrics": {"AP": 0.5, "AP90": 0.5}}', r"schema 2 is newer than 1"),
        ('{"schema": 1, "metrics": {"AP": 0.5}}', r"must hold AP and AP90"),
        ('{"schema": 1, "metrics": {"AP": "x", "AP90": 0.5}}', r"metric AP is 'x'; it must be a finite number or null"),
        ('{"schema": 1, "metrics": {"AP": 0.5, "AP90": NaN}}', r"metric AP90 is nan"),
    ],
)
def test_damaged_metrics_are_named_and_not_done(run: Path, text: str, said: str) -> None:
    write_status(run)
    (run / METRICS).write_text(text)
    state = read_state(run)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    with pytest.raises(UserError, match=rf"metrics\.json: .*{said}"):
        raise UserError(state.message)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": 9}', "schema 9 is newer than 1"),
        ('{"schema": 1, "iteration": "many", "max_iterations": 20}', "field 'iteration' is 'many'"),
        ('{"schema": 1, "iter', "not valid JSON"),
    ],
)
def test_a_damaged_status_is_named_unless_a_process_is_about_to_write_it(run: Path, text: str, said: str) -> None:
    (run / STATUS).write_text(text)
    state = read_state(run)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    assert f"status.json: {said}" in str(state.message)
    with lock_held_by_another_process(run):
        assert read_state(run).name == "running"


def test_records_without_a_spec_are_not_taken_for_a_new_run(tmp_path: Path) -> None:
    (tmp_path / TRAIN_LOG).write_text("{}\n")
    state = read_state(tmp_path)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    assert "spec.json: missing beside train.jsonl" in str(state.message)


def test_reading_a_state_changes_nothing(run: Path) -> None:
    write_status(run)
    before = {path.name: path.stat().st_mtime_ns for path in [run, *run.iterdir()]}
    read_state(run)
    assert {path.name: path.stat().st_mtime_ns for path in [run, *run.iterdir()]} == before


def test_a_lock_is_refused_while_another_process_holds_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "LOCK_PATIENCE_S", 0.1)
    refused = pytest.raises(RunLockedError, match="another process is training")
    with lock_held_by_another_process(run), refused, locked(run):
        pass
    with locked(run):
        assert is_locked(run)
        assert lock_holder(run) == (socket.gethostname(), os.getpid())
    assert not is_locked(run)


def test_a_torn_last_line_is_left_out_and_a_torn_middle_named(tmp_path: Path) -> None:
    path = tmp_path / TRAIN_LOG
    assert read_jsonl(path) == []
    append_jsonl(path, {"iteration": 1})
    append_jsonl(path, {"iteration": 2})
    with path.open("a") as file:
        file.write('{"iteration": 3, "lo')
    assert [row["iteration"] for row in read_jsonl(path)] == [1, 2]
    path.write_text('{"iteration": 1}\n{"itera\n{"iteration": 3}\n')
    with pytest.raises(UserError, match=r"train\.jsonl: line 2 is not valid JSON"):
        read_jsonl(path)


def test_truncate_keeps_rows_up_to_the_iteration_and_drops_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / TRAIN_LOG
    truncate_jsonl(path, 3)
    assert not path.exists()
    for iteration in (1, 2, 3, 4):
        append_jsonl(path, {"iteration": iteration, "loss": 0.1 * iteration})
    whole = path.read_text().splitlines()
    with path.open("a") as file:
        file.write('{"iter')
    truncate_jsonl(path, 3)
    assert path.read_text().splitlines() == whole[:3]  # not only equal values: equal digits


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_json_atomic(path, {"old": True})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json_atomic(path, {"new": True})
    assert [item.name for item in tmp_path.iterdir()] == ["file.json"]
    assert path.read_text() == '{\n "old": true\n}\n'


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        write_bytes_atomic(tmp_path / "small", b"x" * 1000)
        with pytest.raises(OSError) as caught:
            write_bytes_atomic(tmp_path / "large", b"x" * 200_000)
        assert caught.value.errno == errno.ENOSPC
        assert [path.name for path in tmp_path.iterdir()] == ["small"]
        (tmp_path / "filler").write_bytes(b"x" * 60_000)
        with locked(tmp_path):  # a lock needs no space: a run on a full disk can still say why it failed
            assert is_locked(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_json_with_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(tmp_path / "file.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_read_json_names_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(UserError, match=r"file\.json: missing"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"file\.json: cannot be read \(UnicodeDecodeError"):
        read_json(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"file\.json: cannot be read \(IsADirectoryError"):
        read_json(path)

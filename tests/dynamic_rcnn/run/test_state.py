"""The state of a run from the files of its directory, with locks held by real processes."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import METRICS, SPEC, STATUS, TRAIN_LOG, write_json_atomic
from dynamic_rcnn.run.lock import Holder, lock_holder
from dynamic_rcnn.run.state import CORRUPT, read_state
from tests.dynamic_rcnn.run.test_lock import lock_held_by_another_process


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
        assert lock_holder(run) == Holder(socket.gethostname(), process.pid)
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
    ("text", "expected"),
    [
        ("", r"not valid JSON"),
        ('{"schema": 1, "metrics": {"AP": 0.', r"not valid JSON"),
        ("[1]", r"not a file of this suite"),
        ('{"metrics": {"AP": 0.5, "AP90": 0.5}}', r"not a file of this suite"),
        ('{"schema": 2, "metrics": {"AP": 0.5, "AP90": 0.5}}', r"schema 2 is newer than 1"),
        ('{"schema": 1, "metrics": {"AP": 0.5}}', r"metrics=.*: must contain AP and AP90"),
        ('{"schema": 1, "metrics": {"AP": "x", "AP90": 0.5}}', r"metrics.AP=x: must be a number"),
        ('{"schema": 1, "metrics": {"AP": 0.5, "AP90": NaN}}', r"metrics.AP90=nan: must be a finite number"),
    ],
)
def test_a_run_with_damaged_metrics_is_not_done(run: Path, text: str, expected: str) -> None:
    write_status(run)
    (run / METRICS).write_text(text)
    state = read_state(run)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    with pytest.raises(UserError, match=rf"metrics\.json: .*{expected}"):
        raise UserError(state.message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"schema": 9}', "schema 9 is newer than 1"),
        (
            '{"schema": 1, "iteration": "many", "max_iterations": 20}',
            "state: must be given; iteration=many: must be an integer",
        ),
        ('{"schema": 1, "iter', "not valid JSON"),
    ],
)
def test_a_damaged_status_is_reported_unless_a_process_is_about_to_write_it(
    run: Path, text: str, expected: str
) -> None:
    (run / STATUS).write_text(text)
    state = read_state(run)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    assert f"status.json: {expected}" in str(state.message)
    with lock_held_by_another_process(run):
        assert read_state(run).name == "running"


def test_a_directory_with_records_but_no_spec_is_not_a_new_run(tmp_path: Path) -> None:
    (tmp_path / TRAIN_LOG).write_text("{}\n")
    state = read_state(tmp_path)
    assert (state.name, state.cause) == ("failed", CORRUPT)
    assert "spec.json: is missing, but there is train.jsonl" in str(state.message)


def test_reading_a_state_changes_nothing(run: Path) -> None:
    write_status(run)
    before = {path.name: path.stat().st_mtime_ns for path in [run, *run.iterdir()]}
    read_state(run)
    assert {path.name: path.stat().st_mtime_ns for path in [run, *run.iterdir()]} == before

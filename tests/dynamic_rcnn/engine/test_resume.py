"""A killed run ends as one that was never killed: real processes, real SIGKILLs, equal to the last bit."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.state import read_state
from tests.dynamic_rcnn.runs import assert_same_run, curve, prepare, small_spec, train


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data) -> Path:
    run_dir = prepare(tmp_path_factory.mktemp("undisturbed"), small_spec(data))
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir


def test_a_run_killed_repeatedly_equals_an_undisturbed_one(tmp_path, data, undisturbed):
    """Killed before the first checkpoint, in a window's middle, while writing a checkpoint, with the newest
    checkpoint truncated afterwards, and in the evaluation."""
    run_dir = prepare(tmp_path, small_spec(data))
    kills = [
        ("iteration", 3),
        ("iteration", 7),
        ("checkpoint", 8),
        ("iteration", 14),
        ("iteration", 18),
        ("evaluation", 0),
    ]
    for moment, count in kills:
        killed = train(run_dir, moment, count)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert read_state(run_dir).cause == "killed"
        if (moment, count) == ("iteration", 14):
            newest = max((run_dir / "checkpoints").glob("iter_*.pth"))
            assert newest.name.startswith("iter_000012")
            newest.write_bytes(newest.read_bytes()[:-1000])
    last = train(run_dir)
    assert last.returncode == 0, last.stderr
    assert_same_run(run_dir, undisturbed)

    attempts = read_json(run_dir / "status.json")["attempts"]
    resumed_from = [attempt["from_iteration"] for attempt in attempts]
    assert resumed_from == [0, 0, 4, 4, 8, 16, 20]
    assert [attempt["outcome"] for attempt in attempts] == ["killed"] * 6 + ["done"]
    (note,) = [note for attempt in attempts for note in attempt["notes"] if "corrupt" in note]
    assert note.startswith("checkpoint iter_000012-") and "falling back to the one before" in note
    assert list((run_dir / "checkpoints").iterdir()) == [run_dir / "checkpoints" / "weights.pth"]


def test_killed_while_workers_load_ahead_from_a_staged_copy_over_the_end_of_an_epoch(tmp_path, data, undisturbed):
    """An epoch has 12 iterations. The undisturbed run loads its images itself, from where they lie."""
    spec = small_spec(data, train__workers=2, train__prefetch=3)
    run_dir = prepare(tmp_path, replace(spec, dataset={**spec.dataset, "stage": str(tmp_path / "stage")}))
    assert run_dir.name == undisturbed.name
    started = [train(run_dir, "iteration", 7), train(run_dir, "iteration", 14), train(run_dir)]
    assert [each.returncode for each in started] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert ["copying 34 files" in each.stdout for each in started] == [True, False, False]
    assert_same_run(run_dir, undisturbed)
    for row in read_jsonl(run_dir / "train.jsonl"):
        assert 0 <= row["data_seconds"] <= row["seconds"] and row["peak_bytes"] > 1e8
        assert row["images_per_second"] == pytest.approx(2 / row["seconds"])


@pytest.mark.slow
def test_killed_on_two_threads(tmp_path, data):
    reference, run_dir = (prepare(tmp_path / name, small_spec(data)) for name in ("reference", "killed"))
    assert train(reference, threads=2).returncode == 0
    assert train(run_dir, "iteration", 11, threads=2).returncode == -signal.SIGKILL
    assert train(run_dir, threads=2).returncode == 0
    assert read_json(run_dir / "status.json")["attempts"][-1]["from_iteration"] == 8
    assert_same_run(run_dir, reference)


def test_the_components_moved_in_the_reference_run(undisturbed):
    """Else the comparison above would say nothing about T and beta."""
    rows = curve(undisturbed)
    assert len({row["T"] for row in rows}) > 2 and len({row["beta"] for row in rows}) > 1
    assert len({row["lr"] for row in rows}) > 4


def test_another_seed_is_another_run(tmp_path, data, undisturbed):
    run_dir = prepare(tmp_path, small_spec(data, seed=1))
    killed = train(run_dir, "iteration", 4)
    assert killed.returncode == -signal.SIGKILL
    assert curve(run_dir)[:3] != curve(undisturbed)[:3]


def test_done_is_a_no_op(undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.name != "lock"}
    assert train(undisturbed).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.name != "lock"}


def test_nan_is_a_failure_with_its_iteration(tmp_path, data):
    spec = small_spec(data, optim_wrapper__optimizer__lr=1e12, optim_wrapper__clip_grad=None, train__log_interval=10)
    run_dir = prepare(tmp_path, spec)
    failed = train(run_dir)
    assert failed.returncode == 1
    state = read_state(run_dir)
    assert (state.name, state.cause) == ("failed", "NaN")
    assert state.message is not None and state.message.startswith("the loss is not finite at iteration ")
    assert not (run_dir / "metrics.json").exists() and not list(run_dir.glob("checkpoints/iter_*.pth"))


def test_provenance_records_what_is_needed_to_repeat_the_run(undisturbed):
    provenance = read_json(undisturbed / "provenance.json")
    assert len(provenance["code"]) == 10 and len(provenance["dataset_fingerprint"]) == 64
    assert provenance["versions"]["torch"] == metadata.version("torch")
    assert provenance["threads"] == 1 and provenance["device"] == "cpu" and provenance["earlier"] == []
    json.dumps(provenance)

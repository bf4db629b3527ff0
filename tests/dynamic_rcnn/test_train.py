"""The trainer as a process: signals, the lock, evaluation during training, a full disk, and causes of failure."""

from __future__ import annotations

import copy
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dynamic_rcnn import train as trainer
from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import ending
from dynamic_rcnn.engine.ending import UncheckedLosses, classify
from dynamic_rcnn.errors import NaNLossError, NoPositivesError, UserError
from dynamic_rcnn.metrics.detections import read_detections
from dynamic_rcnn.parallel.rank import EXIT_INTERRUPTED, EXIT_LOCKED, Rank
from dynamic_rcnn.run.files import read_json, read_jsonl, write_json_atomic
from dynamic_rcnn.run.lock import locked
from dynamic_rcnn.run.reuse import find_training, reuse
from dynamic_rcnn.run.state import read_state
from dynamic_rcnn.run.status import StatusFile
from tests.dynamic_rcnn.data.coco_fixture import edit_json, write_coco
from tests.dynamic_rcnn.runs import curve, prepare, small_spec, train

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_used_again_without_page_faults():
    trainer.keep_freed_memory()
    faults = []
    for _ in range(8):  # the first times memory is taken from the kernel
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        sum(len(each) for each in [torch.ones(24, 2**18) for _ in range(4)])  # 24,576 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults) < 1000


def test_a_signal_writes_a_checkpoint_and_evaluations_are_not_repeated(tmp_path, data):
    spec = small_spec(data, train__max_iters=12, train__checkpoint_interval=5, train__val_interval=5)
    run_dir = prepare(tmp_path, spec)
    assert train(run_dir, "evaluated").returncode == -signal.SIGKILL
    assert [row["iteration"] for row in read_jsonl(run_dir / "evaluations.jsonl")] == [5]
    assert train(run_dir, "stop", 2).returncode == EXIT_INTERRUPTED
    state = read_state(run_dir)
    assert (state.name, state.cause, state.iteration) == ("failed", "interrupted", 7)
    written = max((run_dir / "checkpoints").glob("iter_*.pth"))
    assert written.name.startswith(f"iter_{state.iteration:06d}-")
    assert train(run_dir).returncode == 0
    assert [row["iteration"] for row in read_jsonl(run_dir / "evaluations.jsonl")] == [5, 10]
    outcomes = [attempt["outcome"] for attempt in read_json(run_dir / "status.json")["attempts"]]
    assert outcomes == ["killed", "interrupted", "done"]


def test_all_reduce_is_refused_where_it_has_no_effect(tmp_path, data):
    spec = small_spec(data, model__train_cfg__rcnn__dynamic_rcnn__all_reduce=True)
    assert train(run_dir := prepare(tmp_path, spec)).returncode == 2
    assert "all_reduce: true has no effect with base.train.groups=1" in (read_state(run_dir).message or "")


def test_a_signal_ends_an_evaluation_at_once_and_resuming_repeats_it(tmp_path, data):
    spec = small_spec(data, train__max_iters=8, train__checkpoint_interval=100, train__val_interval=5)
    run_dir = prepare(tmp_path, spec)
    for iteration, where in ((5, "after iteration 5"), (8, "after the last iteration")):
        stopped = train(run_dir, "stop_in_evaluation" if iteration == 5 else "stop_in_last_evaluation")
        assert stopped.returncode == EXIT_INTERRUPTED, stopped.stderr
        assert read_state(run_dir).message == f"stopped by a signal in the evaluation {where}"
        newest = max((run_dir / "checkpoints").glob("iter_*.pth"))
        assert newest.name.startswith(f"iter_{iteration:06d}-")
    assert [row["iteration"] for row in read_jsonl(run_dir / "evaluations.jsonl")] == [5]
    assert not (run_dir / "metrics.json").exists()
    assert train(run_dir).returncode == 0


def test_a_signal_during_startup_is_an_interruption(tmp_path, data):
    run_dir = prepare(tmp_path, small_spec(data))
    stopped = train(run_dir, "stop_at_start")
    assert stopped.returncode == EXIT_INTERRUPTED, stopped.stderr
    assert read_state(run_dir).message == "stopped by a signal while it was starting"


def test_a_superseded_process_stops_and_writes_nothing_more(tmp_path, data):
    """Its directory is moved aside in iteration 6: what it logs from there on is in the directory that was moved."""
    run_dir = prepare(tmp_path, small_spec(data))
    lost = train(run_dir, "overtaken", 6)
    assert lost.returncode == 75 and "another attempt has taken over this run" in lost.stderr
    assert [row["iteration"] for row in read_jsonl(run_dir / "train.jsonl")] == [1, 2, 3, 4, 5]
    assert read_json(run_dir / "status.json")["attempts"][-1]["outcome"] is None
    assert [path.name[:11] for path in (run_dir / "checkpoints").iterdir()] == ["iter_000004"]


def test_training_sends_heartbeats_and_prints_nothing_else(tmp_path, data):
    run_dir = prepare(tmp_path, small_spec(data, train__max_iters=4))
    watched, written = os.pipe()
    env = {**ENV, "DYNAMIC_RCNN_HEARTBEAT": str(written)}
    command = [sys.executable, "-m", "dynamic_rcnn.train", str(run_dir)]
    done = subprocess.run(command, env=env, pass_fds=[written], capture_output=True, text=True, timeout=600)
    os.close(written)
    assert set(os.read(watched, 1000)) == set(b".")
    os.close(watched)
    assert done.stderr == ""
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [f"iteration {n}/4" for n in (1, 2, 3, 4)]


def test_a_failed_device_is_recorded_as_an_error():
    class Broken(UncheckedLosses):
        def first_bad(self) -> None:
            raise RuntimeError("CUDA error: device-side assert triggered")

    end = classify(RuntimeError("CUDA error: an illegal memory access"), Rank(), Broken())
    assert (end.cause, end.exit_code) == ("error", 1) and end.message.endswith("an illegal memory access")


def test_an_operator_without_a_deterministic_form_is_named(capsys):
    """With the words of torch 2.14, and no traceback."""
    said = "kthvalue CUDA does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms"
    assert classify(RuntimeError(f"{said}(True)'. You can turn off"), Rank(), UncheckedLosses()).message == (
        "base.train.deterministic=true: the operator kthvalue CUDA has no deterministic form on this device; set it to "
        "false, or train a model without it"
    )
    assert capsys.readouterr().err == ""


def test_a_device_that_does_not_answer_does_not_block_the_end(monkeypatch):
    monkeypatch.setattr(ending, "_DEVICE_PATIENCE_S", 0.1)

    class Stuck(UncheckedLosses):
        def first_bad(self) -> None:
            time.sleep(3600)

    assert classify(RuntimeError("x"), Rank(), Stuck()).cause == "error"


def test_nan_is_the_cause_when_an_operator_fails_on_it():
    losses = UncheckedLosses()
    for iteration in (6, 7, 8):
        losses.add(iteration, torch.tensor(1.0 if iteration == 6 else float("nan")))
    end = classify(IndexError("x"), Rank(), losses)
    assert (end.cause, end.message) == ("NaN", "the loss is not finite at iteration 7")


def test_a_run_killed_after_its_metrics_is_closed(tmp_path):
    run_dir = prepare(tmp_path, small_spec(tmp_path))
    record = StatusFile(run_dir, 20)
    record.start(0)
    write_json_atomic(run_dir / "metrics.json", {"schema": 1, "metrics": {"AP": 0.5, "AP90": 0.1}})
    assert trainer.train(run_dir) == trainer.EXIT_DONE
    assert read_json(run_dir / "status.json")["attempts"][-1]["outcome"] == "done"


def test_a_second_process_does_not_train_a_locked_run(tmp_path, data):
    run_dir = prepare(tmp_path, small_spec(data))
    with locked(run_dir):
        second = train(run_dir)
    assert second.returncode == EXIT_LOCKED
    assert second.stderr.startswith(
        f"error: {run_dir}: another process is training this run (process {os.getpid()} on "
    )
    assert not (run_dir / "status.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_keeps_everything_written_before(tmp_path, data):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    try:
        run_dir = prepare(disk, small_spec(data, train__max_iters=8))
        failed = train(run_dir)
        assert failed.returncode == ending.EXIT_FAILED
        state = read_state(run_dir)
        assert (state.name, state.cause) == ("failed", "disk")
        assert "No space left on device; free some space or choose another runs=" in (state.message or "")
        assert "Traceback" not in failed.stderr
        assert not list((run_dir / "checkpoints").iterdir())  # nothing half-written
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert train(run_dir).returncode == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_run_on_a_data_set_in_coco_format(tmp_path):
    """Gapped category ids, crowds, images without boxes, grey images and odd sizes, from training to metrics."""
    layout = write_coco(tmp_path / "data")
    spec = small_spec(tmp_path, train__max_iters=4)
    described = {"name": "mine", **dataset.coco_format_dataset(tmp_path / "data", layout)}
    config = copy.deepcopy(spec.config)
    config["model"]["roi_head"]["bbox_head"]["num_classes"] = len(described["classes"])
    run_dir = prepare(tmp_path / "runs", type(spec)("both", 0, described, config))
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    metrics = read_json(run_dir / "metrics.json")
    assert metrics["images"] == 4 and set(metrics["per_class"]) == set(described["classes"])
    ids = {item["id"] for item in json.loads((tmp_path / "data" / layout["val_ann"]).read_text())["categories"]}
    assert {row["category_id"] for row in read_detections(run_dir / "detections.json.gz")} <= ids

    weights = (run_dir / "checkpoints/weights.pth").read_bytes()
    (run_dir / "metrics.json").unlink()
    assert train(run_dir).returncode == 0  # the final weights are there: only the evaluation is repeated
    assert read_json(run_dir / "metrics.json") == metrics
    assert (run_dir / "checkpoints/weights.pth").read_bytes() == weights

    annotations = tmp_path / "data" / layout["val_ann"]
    edit_json(annotations, lambda content: content["annotations"].pop())
    (run_dir / "metrics.json").unlink()
    assert train(run_dir).returncode == 2
    message = read_state(run_dir).message or ""
    assert "the validation annotations have changed since this run was planned" in message
    assert message.endswith("launch again: only the evaluation is repeated, if the training is complete")

    described = {"name": "mine", **dataset.coco_format_dataset(tmp_path / "data", layout)}
    corrected = type(spec)("both", 0, described, config)
    new_dir = corrected.directory(tmp_path / "runs")
    assert find_training(corrected, [run_dir], {}) == run_dir
    reuse(corrected, new_dir, run_dir)
    again = train(new_dir)
    assert again.returncode == 0, again.stderr
    assert "only the evaluation is repeated; the validation annotations changed since run" in again.stdout
    assert curve(new_dir) == curve(run_dir)
    assert (new_dir / "detections.json.gz").read_bytes() == (run_dir / "detections.json.gz").read_bytes()
    state = read_state(new_dir)
    assert (state.name, len(state.status.attempts if state.status else [])) == ("done", 4)


def test_a_run_without_positives_fails_with_that_cause(tmp_path):
    """All boxes are marked ignore after the launcher's check, as by a filter of one's own."""
    layout = write_coco(tmp_path / "data")
    annotations = tmp_path / "data" / layout["train_ann"]
    edit_json(annotations, lambda content: [item.update(ignore=1) for item in content["annotations"]])
    spec = small_spec(tmp_path, train__max_iters=4)
    described = {"name": "mine", **dataset.coco_format_dataset(tmp_path / "data", layout)}
    config = copy.deepcopy(spec.config)
    config["model"]["roi_head"]["bbox_head"]["num_classes"] = len(described["classes"])
    run_dir = prepare(tmp_path / "runs", type(spec)("both", 0, described, config))
    assert train(run_dir).returncode == ending.EXIT_FAILED
    state = read_state(run_dir)
    assert (state.name, state.cause) == ("failed", "no positives")
    assert (state.message or "").startswith("iterations 1 to 4 have no positives: no ground-truth box reaches the RoI")


def test_bad_input_is_one_line(tmp_path):
    assert train(tmp_path / "absent").returncode == 2
    missing = train(tmp_path)
    assert missing.stderr.strip().splitlines()[-1] == f"error: {tmp_path}/spec.json: missing"
    assert "Traceback" not in missing.stderr


def test_missing_start_weights_are_named(tmp_path, data):
    spec = small_spec(data)
    run_dir = prepare(tmp_path, type(spec)("both", 0, spec.dataset, spec.config, {"run": "0123456789"}))
    assert train(run_dir).returncode == 2
    message = read_state(run_dir).message or ""
    assert message.startswith("the weights of run 0123456789, which this one needs, are missing; if that run is done")


def test_a_failed_download_names_the_file_and_its_folder(tmp_path, data):
    """The error of a machine without a network, from a real attempt at an address that does not answer."""
    config = {"type": "Pretrained", "checkpoint": "http://127.0.0.1:9/resnet50.pth"}
    run_dir = prepare(tmp_path, small_spec(data, model__backbone__init_cfg=config))
    assert train(run_dir).returncode == 2
    message = read_state(run_dir).message or ""
    assert "resnet50.pth" in message and "cannot be downloaded here" in message and "put the file into" in message


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory", 1),
        (MemoryError(), "out of memory", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory", 1),
        (RuntimeError("something else"), "error", 1),
        (OSError(28, "No space left on device"), "disk", 1),
        (UserError("bad value"), "bad input", 2),
        (RuntimeError("op does not have a deterministic implementation, but you set"), "bad input", 2),
        (NaNLossError("the loss is not finite at iteration 7"), "NaN", 1),
        (NoPositivesError("iterations 1 to 100 have no positives"), "no positives", 1),
    ],
)
def test_causes(error, cause, code):
    end = classify(error, Rank(), UncheckedLosses())
    assert (end.cause, end.exit_code) == (cause, code)
    assert "\n" not in end.message

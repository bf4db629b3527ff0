"""One run on several processes: real ones, with gloo. All processes act alike, and the run survives kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate

from dynamic_rcnn.cli import EXIT_BAD_INPUT
from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, checkpoint, ending
from dynamic_rcnn.engine import inference as predict
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.metrics.detections import write_detections
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.parallel.rank import EXIT_INTERRUPTED, Rank
from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.lock import is_locked
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.state import read_state
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, start, train

GROUPS = 4
ALL_REDUCE = {"model__train_cfg__rcnn__dynamic_rcnn__all_reduce": True}


def spec_of(data: Path, processes: int = 2, **changes: Any) -> RunSpec:
    """A short run with all that processes must agree on: batch statistics, evaluations, windows across checkpoints."""
    settings = {
        "train__processes": processes,
        "train__groups": GROUPS,
        "train__images_per_group": 1,
        "train__max_iters": 8,
        "train__checkpoint_interval": 3,
        "train__val_interval": 5,
        "model__backbone__frozen_stages": -1,
        "model__backbone__norm_eval": False,
        "model__train_cfg__rcnn__dynamic_rcnn__update_iter_interval": 2,
        "model__train_cfg__rcnn__dynamic_rcnn__initial_iou": 0.1,
    }
    return small_spec(data, **{**settings, **changes})


def schedules(run_dir: Path) -> list[dict[str, Any]]:
    """T, beta and windows of each group, in the newest checkpoint."""
    data, _ = checkpoint.read_newest(run_dir / "checkpoints")
    assert data is not None
    return checkpoint.deserialise(data)["schedules"]


def attempts(run_dir: Path) -> list[tuple[int, int, str]]:
    rows = read_json(run_dir / "status.json")["attempts"]
    return [(row["from_iteration"], row["to_iteration"], row["outcome"]) for row in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def together(tmp_path_factory, data) -> dict[str, Path]:
    """Two runs of two processes, on this machine at the same time: an undisturbed one, and one that is stopped."""
    folder = tmp_path_factory.mktemp("together")
    undisturbed = prepare(folder, spec_of(data))
    averaged = prepare(folder, spec_of(data, **ALL_REDUCE))
    first, second = start(undisturbed, forked=False), start(averaged, "stop", 6, rank=1)
    errors = [process.communicate(timeout=600)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, EXIT_INTERRUPTED), errors
    assert errors[0] == ""  # no warnings in the log
    return {"undisturbed": undisturbed, "averaged": averaged}


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(together):
    state = read_state(together["averaged"])
    assert (state.name, state.cause, state.iteration) == ("failed", "interrupted", 6)
    assert state.message == "stopped by a signal after iteration 6"
    newest = max((together["averaged"] / "checkpoints").glob("iter_*.pth"))
    assert newest.name.startswith("iter_000006-")
    assert not list((together["averaged"] / "logs").glob("*"))


def test_statistics_are_per_group_unless_all_reduce_averages_them(tmp_path, data, together):
    groups = schedules(together["averaged"])
    assert [group["updates"] for group in groups] == [3] * GROUPS
    assert len({(group["iou_threshold"], group["beta"]) for group in groups}) == 1
    averaged, own = (
        [row["T"] for row in read_jsonl(together[name] / "train.jsonl")] for name in ("averaged", "undisturbed")
    )
    assert averaged[0] == own[0] == 0.5 and averaged[1] != own[1]  # the first window is the same in both runs


def test_a_killed_and_stopped_run_ends_like_an_undisturbed_one(tmp_path, data, together):
    """Killed with all of its processes, stopped before an evaluation that is due, resumed."""
    run_dir = prepare(tmp_path, spec_of(data))
    assert train(run_dir, "iteration", 4).returncode == ending.EXIT_FAILED
    thresholds = [group["iou_threshold"] for group in schedules(run_dir)]
    assert len(set(thresholds)) == GROUPS
    averaged = read_jsonl(together["averaged"] / "train.jsonl")[1]["T"]  # after the same two iterations
    assert averaged == pytest.approx(sum(thresholds) / GROUPS)
    assert train(run_dir, "stop", 2, rank=1).returncode == EXIT_INTERRUPTED
    assert not (run_dir / "evaluations.jsonl").exists()
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    assert attempts(run_dir) == [(0, 4, "killed"), (3, 5, "interrupted"), (5, 8, "done")]
    assert_same_run(run_dir, together["undisturbed"])
    assert [row["iteration"] for row in read_jsonl(run_dir / "evaluations.jsonl")] == [5]
    evaluations = [folder / "evaluations.jsonl" for folder in (run_dir, together["undisturbed"])]
    assert evaluations[0].read_bytes() == evaluations[1].read_bytes()


def test_several_processes_detect_what_one_detects(tmp_path, together):
    """The detections that two processes wrote, byte for byte, from the weights that they wrote."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spec = RunSpec.read(together["undisturbed"])
        root, _ = dataset.prepare(spec.dataset)
        model = build.build_model(spec)
        checkpoint.load_weights(model, together["undisturbed"] / "checkpoints" / "weights.pth")
        found = predict.predict(model, build.build_dataset(spec, "val", root), workers=0)
    finally:
        torch.set_num_threads(threads)
    assert found
    write_detections(tmp_path / "detections.json.gz", found)
    written = (together["undisturbed"] / "detections.json.gz").read_bytes()
    assert (tmp_path / "detections.json.gz").read_bytes() == written


def test_done_is_a_no_op(together):
    run_dir = together["undisturbed"]
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.name != "lock"}
    assert train(run_dir).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.name != "lock"}
    assert {path.name for path in before} >= {"metrics.json"} and not {"rendezvous.json", "logs"} & set(before)


def gradients(spec: RunSpec, images: Any, group: int) -> dict[str, torch.Tensor]:
    """Of the first iteration's loss over the image of one group, by hand."""
    model = build.build_model(spec).train()
    generator = torch.Generator()
    generator.manual_seed(spec.seed)
    order = torch.randperm(len(images), generator=generator).tolist()
    share = build.SeededDataset(images, spec.seed)
    batch = pseudo_collate([share[(order[group], 0)]])
    seed_all(spec.seed, "iteration", 0, group)
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    model.parse_losses(losses)[0].backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_takes_the_mean_of_the_groups_gradients(tmp_path, data, processes):
    spec = spec_of(data, processes, train__max_iters=1, model__backbone__norm_eval=True, optim_wrapper__clip_grad=None)
    run_dir = prepare(tmp_path, spec)
    done = train(run_dir)
    assert done.returncode == 0, done.stderr

    root, _ = dataset.prepare(spec.dataset)
    images = build.build_dataset(spec, "train", root)
    model = build.build_model(spec).train()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    found = [gradients(spec, images, group) for group in range(GROUPS)]
    mean = {name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}
    assert not torch.equal(found[0]["rpn_head.rpn_cls.weight"], found[1]["rpn_head.rpn_cls.weight"])
    rate, decay = 0.1 * 0.02, 0.0001  # the schedule's first rate
    weights = torch.load(run_dir / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
    for name, value in before.items():
        step = rate * (mean[name] + decay * value)
        assert torch.allclose(value - weights[name], step, rtol=1e-2, atol=2e-7), name
    name = "rpn_head.rpn_conv.weight"
    for other in (found[0][name], found[-1][name], GROUPS * mean[name]):
        assert not torch.allclose(before[name] - weights[name], rate * other, rtol=1e-2, atol=2e-7)


def test_nan_on_one_process_fails_the_run(tmp_path, data):
    spec = spec_of(data, train__log_interval=4)
    run_dir = prepare(tmp_path, spec)
    failed = train(run_dir, "nan", 2, rank=1)
    assert failed.returncode == ending.EXIT_FAILED
    state = read_state(run_dir)
    assert (state.cause, state.message) == ("NaN", "the loss is not finite at iteration 2")
    expected = [line for line in failed.stderr.splitlines() if line.startswith("NaN: ")]
    assert expected == ["NaN: the loss is not finite at iteration 2"] * 2
    assert not list(run_dir.glob("checkpoints/iter_*.pth"))


def test_the_failed_process_is_reported_and_the_others_end_soon(tmp_path, data):
    run_dir = prepare(tmp_path, spec_of(data))
    failed = train(run_dir, "error", 2, rank=1)  # it stops waiting long before the collectives time out
    assert failed.returncode == ending.EXIT_FAILED
    state, expected = read_state(run_dir), "RuntimeError: a device that does not do what it should"
    assert (state.cause, state.message) == ("error", f"rank 1: {expected}")
    left = read_json(run_dir / "logs" / "failure.rank1.json")
    assert (left["cause"], left["message"]) == ("error", expected)


def test_a_wrong_number_of_processes_is_refused(tmp_path, data):
    run_dir = prepare(tmp_path, spec_of(data, processes=1))
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    command = [sys.executable, "-m", "dynamic_rcnn.train", str(run_dir)]
    refused = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert refused.returncode == EXIT_BAD_INPUT
    expected = "WORLD_SIZE=2: this run has base.train.processes=1; start as many processes"
    assert (read_state(run_dir).cause, read_state(run_dir).message) == ("bad input", expected)


def test_groups_that_cannot_be_shared_are_refused(tmp_path, data):
    run_dir = prepare(tmp_path, spec_of(data, processes=3))
    assert train(run_dir).returncode == EXIT_BAD_INPUT
    message = read_state(run_dir).message or ""
    assert message.startswith("base.train.groups=4: cannot be divided among 3 processes; use 1, 2 or 4, or other")


def test_one_and_four_processes_train_the_same_run_but_for_rounding(tmp_path, data, together):
    """Losses, T and beta over the first 8 iterations; the weights at the end, relative to how far they moved."""
    reference = read_jsonl(together["undisturbed"] / "train.jsonl")
    weights = torch.load(together["undisturbed"] / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
    initial = {name: value.detach() for name, value in build.build_model(spec_of(data)).named_parameters()}
    for processes in (1, 4):
        spec = spec_of(data, processes)
        run_dir = prepare(tmp_path / str(processes), spec)
        done = train(run_dir)
        assert done.returncode == 0, done.stderr
        assert run_dir.name == together["undisturbed"].name
        for row, expected in zip(read_jsonl(run_dir / "train.jsonl"), reference, strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)
            assert (row["T"], row["beta"]) == pytest.approx((expected["T"], expected["beta"]), abs=1e-3)
        found = torch.load(run_dir / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
        apart, moved = (
            torch.cat([(found[name] - other[name]).flatten() for name in initial]).norm()
            for other in (weights, initial)
        )
        assert 0 < apart < 0.05 * moved, apart / moved


def test_another_number_of_processes_continues_a_run(tmp_path, data, together):
    """Stopped with two processes, continued by one: the T, beta and windows of all groups are restored."""
    run_dir = prepare(tmp_path, spec_of(data))
    assert train(run_dir, "stop", 4).returncode == EXIT_INTERRUPTED
    prepare(tmp_path, spec_of(data, 1))
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    assert attempts(run_dir) == [(0, 4, "interrupted"), (4, 8, "done")]
    rows, expected = (read_jsonl(each / "train.jsonl") for each in (run_dir, together["undisturbed"]))
    for row, other in zip(rows, expected, strict=True):
        assert (row["T"], row["beta"], row["loss"]) == pytest.approx(
            (other["T"], other["beta"], other["loss"]), rel=1e-3
        )


def ends(*causes: str) -> list[dict[str, Any]]:
    return [{"cause": cause, "message": "", "rank": rank, "iteration": 0} for rank, cause in enumerate(causes)]


@pytest.mark.parametrize(
    ("causes", "agreed"),
    [
        (("lost", "error"), "error"),
        (("error", "NaN"), "NaN"),  # an operator failed on weights that another process's NaN had spoiled
        (("interrupted", "lost"), "interrupted"),
        (("interrupted", "disk"), "disk"),
        (("superseded", "lost"), "superseded"),
        (("lost", "lost"), "lost"),
    ],
)
def test_all_agree_on_the_cause(causes, agreed, monkeypatch):
    monkeypatch.setattr(distributed, "exchange_ends", lambda mine: ends(*causes))
    assert ending._agree(ending.End(causes[0], "", 0)).cause == agreed


def test_of_two_losses_that_are_not_finite_the_first_counts(monkeypatch):
    both = [ending.End("NaN", "at 9", 0, 9), ending.End("NaN", "at 7", 1, 7)]
    monkeypatch.setattr(distributed, "exchange_ends", lambda mine: [vars(end) for end in both])
    assert ending._agree(both[0]).message == "at 7"


def test_a_single_process_has_no_process_group():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    distributed.join(Rank(), lambda: None)
    assert distributed.earliest(None) is None and distributed.earliest(3) == 3
    assert distributed.any_of(True) and not distributed.any_of(False)
    assert distributed.gather("x") == ["x"] and distributed.broadcast("y") == "y"
    assert distributed.mean({"loss": 0.1}) == {"loss": 0.1}
    distributed.leave()


@pytest.mark.slow
def test_four_processes_killed_again_and_again(tmp_path, data):
    """SIGKILL to the whole group, whatever it is doing; with four summands their order would show."""
    spec = spec_of(data, processes=4, train__max_iters=12)
    reference, run_dir = prepare(tmp_path / "reference", spec), prepare(tmp_path / "killed", spec)
    done = train(reference)
    assert done.returncode == 0, done.stderr
    for rows in (4, 9):
        process = start(run_dir, "hold", rows + 2)  # so that it is killed before it is done
        while len(read_jsonl(run_dir / "train.jsonl")) < rows:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    stopped = train(run_dir, "stop_in_evaluation", rank=3)
    assert stopped.returncode == EXIT_INTERRUPTED, stopped.stderr
    assert (read_state(run_dir).message or "").startswith("stopped by a signal in the evaluation after ")
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    assert_same_run(run_dir, reference)
    assert [outcome for _, _, outcome in attempts(run_dir)] == ["killed", "killed", "interrupted", "done"]


@pytest.mark.slow
def test_processes_stop_in_order_when_their_parent_is_killed(tmp_path, data):
    """And the claim is held until the last of them has ended."""
    run_dir = prepare(tmp_path, spec_of(data))
    process = start(run_dir, "hold", 3)
    while len(read_jsonl(run_dir / "train.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert is_locked(run_dir)
    (run_dir / "released").touch()
    while is_locked(run_dir):
        time.sleep(0.02)
    state = read_state(run_dir)
    assert (state.cause, state.message) == ("interrupted", f"stopped by a signal after iteration {state.iteration}")
    assert max((run_dir / "checkpoints").glob("iter_*.pth")).name.startswith(f"iter_{state.iteration:06d}-")


@pytest.mark.slow
def test_a_killed_and_a_superseded_process_are_reported(tmp_path, data):
    run_dir = prepare(tmp_path, spec_of(data))
    assert train(run_dir, "iteration", 2, rank=1).returncode == ending.EXIT_FAILED
    state = read_state(run_dir)
    assert state.cause == "killed" and (state.message or "").startswith("rank 1 was killed by signal 9")
    lost = train(run_dir, "overtaken", 4, rank=0)
    assert lost.returncode == 75, lost.stderr
    assert [row["iteration"] for row in read_jsonl(run_dir / "train.jsonl")] == [1, 2, 3]  # the successor's
    aside = run_dir.with_name(f"{run_dir.name}.lost1")
    assert [row["iteration"] for row in read_jsonl(aside / "train.jsonl")] == [1, 2, 3]
    assert train(run_dir).returncode == 0

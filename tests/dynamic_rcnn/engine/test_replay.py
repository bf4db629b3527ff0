"""A run that replays another one trains with its T and beta, also after being killed and resumed."""

from __future__ import annotations

import dataclasses

import pytest

from dynamic_rcnn.engine import start
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import append_jsonl, read_jsonl, write_json_atomic
from dynamic_rcnn.run.state import read_state
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, train

_STATIC = {
    "model__train_cfg__rcnn__dynamic_rcnn__label_assignment": False,
    "model__train_cfg__rcnn__dynamic_rcnn__smooth_l1": False,
}


def test_a_replay_needs_the_other_run_and_keeps_its_final_values(tmp_path):
    dynamic = small_spec(tmp_path / "data", train__max_iters=12)
    static = small_spec(tmp_path / "data", train__max_iters=12, **_STATIC)
    replaying = {"run": dynamic.id, "setting": dynamic.setting}
    replay = dataclasses.replace(static, arm="replay", replay=replaying)
    run_dir, undisturbed = prepare(tmp_path / "runs", replay), prepare(tmp_path / "others", replay)
    assert train(run_dir).returncode == 2
    assert f"run {dynamic.id}, whose T and beta this one replays, is not done" in (read_state(run_dir).message or "")

    for folder in ("runs", "others"):
        assert train(prepare(tmp_path / folder, dynamic)).returncode == 0
    final = read_jsonl(dynamic.directory(tmp_path / "runs") / "train.jsonl")[-1]
    assert final["beta"] != 1.0 and final["T"] != 0.5
    assert train(run_dir, "iteration", 6).returncode != 0
    assert train(run_dir).returncode == 0
    assert {(row["T"], row["beta"]) for row in read_jsonl(run_dir / "train.jsonl")} == {(final["T"], final["beta"])}
    assert train(undisturbed).returncode == 0
    assert_same_run(run_dir, undisturbed)

    whole = dataclasses.replace(replay, arm="open_loop", replay={**replaying, "values": "all"})
    run_dir = prepare(tmp_path / "runs", whole)
    assert train(run_dir, "iteration", 7).returncode != 0  # in the second window
    assert train(run_dir).returncode == 0
    runs = [read_jsonl(each / "train.jsonl") for each in (run_dir, dynamic.directory(tmp_path / "runs"))]
    assert [(row["T"], row["beta"]) for row in runs[0]] == [(row["T"], row["beta"]) for row in runs[1]]
    assert len({row["T"] for row in runs[0]}) == 3


@pytest.mark.parametrize(
    ("logged", "iteration", "said"),
    [
        (2, 2, None),
        (0, 2, "lacks T and beta of a window, or of iteration 2, with which run {run} ended"),
        (1, 2, "lacks T and beta of a window, or of iteration 2"),
        (2, None, "run {run}, whose T and beta this one replays, is not done; launch again when it is"),
    ],
)
def test_only_a_finished_run_with_a_complete_log_is_replayed(tmp_path, monkeypatch, logged, iteration, said):
    """logged: rows in its train.jsonl. iteration: the one that its metrics are of; None: it has none."""
    dynamic = small_spec(tmp_path / "data")
    replay = dataclasses.replace(dynamic, arm="replay", replay={"run": dynamic.id, "setting": dynamic.setting})
    source, run_dir = prepare(tmp_path, dynamic), prepare(tmp_path, replay)
    (source / "train.jsonl").touch()
    for number in range(1, logged + 1):
        append_jsonl(source / "train.jsonl", {"iteration": number, "T": 0.5 + number / 10, "beta": 1 / number})
    if iteration is not None:
        write_json_atomic(source / "metrics.json", {"schema": 1, "iteration": iteration, "metrics": {}})
    monkeypatch.chdir(run_dir)
    if said is None:
        assert start.read_replayed(replay) == [(0.7, 0.5)]
        return
    with pytest.raises(UserError) as error:
        start.read_replayed(replay)
    assert said.format(run=dynamic.id) in str(error.value)


def test_a_last_row_without_its_state_is_refused(tmp_path, monkeypatch):
    dynamic = small_spec(tmp_path / "data")
    replay = dataclasses.replace(dynamic, arm="replay", replay={"run": dynamic.id, "setting": dynamic.setting})
    source, run_dir = prepare(tmp_path, dynamic), prepare(tmp_path, replay)
    append_jsonl(source / "train.jsonl", {"iteration": 2, "T": 0.6})
    write_json_atomic(source / "metrics.json", {"schema": 1, "iteration": 2, "metrics": {}})
    monkeypatch.chdir(run_dir)
    with pytest.raises(UserError, match="lacks T and beta of a window, or of iteration 2"):
        start.read_replayed(replay)


def test_the_order_of_the_windows(tmp_path, monkeypatch):
    dynamic = small_spec(tmp_path / "data")  # windows of 5 iterations
    run_dir = prepare(tmp_path, dynamic)
    values = [(0.5, 1.0), (0.6, 0.5), (0.7, 0.25), (0.8, 0.125)]
    for iteration in range(1, 16, 2):
        threshold, beta = values[iteration // 5]
        append_jsonl(run_dir / "train.jsonl", {"iteration": iteration, "T": threshold, "beta": beta})
    write_json_atomic(run_dir / "metrics.json", {"schema": 1, "iteration": 15, "metrics": {}})

    def replayed(order: str, seed: int = 0) -> list[tuple[float, float]]:
        source = {"run": dynamic.id, "setting": dynamic.setting, "values": order}
        spec = dataclasses.replace(dynamic, arm="replay", seed=seed, replay=source)
        monkeypatch.chdir(prepare(tmp_path, spec))
        return start.read_replayed(spec) or []

    assert replayed("all") == values and replayed("reversed") == values[::-1]
    shuffled = [replayed("shuffled", seed) for seed in range(4)]
    assert all(sorted(each) == values for each in shuffled) and len(set(map(tuple, shuffled))) > 1
    assert replayed("shuffled", 3) == shuffled[3]
    rows = read_jsonl(run_dir / "train.jsonl")
    (run_dir / "train.jsonl").write_text("")
    for row in rows[:2] + rows[5:]:  # none of the second window
        append_jsonl(run_dir / "train.jsonl", row)
    with pytest.raises(UserError, match="lacks T and beta of a window"):
        replayed("all")

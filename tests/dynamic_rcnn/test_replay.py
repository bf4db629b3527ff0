"""A run that replays another one trains with the T and beta that it ended with, also after it was killed."""

from __future__ import annotations

import dataclasses

from dynamic_rcnn.run.directory import read_jsonl, read_state
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, train

_STATIC = {
    "model__train_cfg__rcnn__dynamic_rcnn__label_assignment": False,
    "model__train_cfg__rcnn__dynamic_rcnn__smooth_l1": False,
}


def test_it_needs_the_other_run_and_holds_its_final_values(tmp_path):
    dynamic = small_spec(tmp_path / "data", train__max_iters=12)
    static = small_spec(tmp_path / "data", train__max_iters=12, **_STATIC)
    replaying = {"run": dynamic.id, "setting": dynamic.setting}
    replay = dataclasses.replace(static, arm="replay", replay=replaying)
    run_dir, undisturbed = prepare(tmp_path / "runs", replay), prepare(tmp_path / "others", replay)
    assert train(run_dir).returncode == 2
    assert f"run {dynamic.id}, whose final T and beta this one replays, is not done" in (
        read_state(run_dir).message or ""
    )

    for folder in ("runs", "others"):
        assert train(prepare(tmp_path / folder, dynamic)).returncode == 0
    final = read_jsonl(dynamic.directory(tmp_path / "runs") / "train.jsonl")[-1]
    assert final["beta"] != 1.0 and final["T"] != 0.5
    assert train(run_dir, "iteration", 6).returncode != 0
    assert train(run_dir).returncode == 0
    assert {(row["T"], row["beta"]) for row in read_jsonl(run_dir / "train.jsonl")} == {(final["T"], final["beta"])}
    assert train(undisturbed).returncode == 0
    assert_same_run(run_dir, undisturbed)

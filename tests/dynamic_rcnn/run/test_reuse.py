"""A complete training is reused after a correction of the validation annotations, and in no other case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import read_json, write_json_atomic
from dynamic_rcnn.run.fingerprint import code_fingerprint
from dynamic_rcnn.run.lock import locked
from dynamic_rcnn.run.reuse import find_training, read_trained, reuse
from dynamic_rcnn.run.spec import EVALUATE, RunSpec

DATASET = {"name": "mine", "root": "/data", "fingerprint": "a" * 64, "train_fingerprint": "t" * 64}
OLD = RunSpec("both", 0, DATASET, {"train": {"max_iters": 20}})
CORRECTED = {**DATASET, "fingerprint": "b" * 64}
NEW = replace(OLD, dataset=CORRECTED)


def write_run(runs: Path, spec: RunSpec, iteration: int = 20, code: str | None = None) -> Path:
    """A run directory with a training of 20 iterations, up to `iteration`."""
    path = spec.directory(runs)
    (path / "checkpoints").mkdir(parents=True)
    spec.write(path)
    attempt = {"number": 1, "outcome": "bad input"}
    status: dict[str, Any] = {"state": "failed", "iteration": iteration, "max_iterations": 20, "attempts": [attempt]}
    write_json_atomic(path / "status.json", {"schema": 1, **status})
    write_json_atomic(path / "provenance.json", {"schema": 1, "code": code or code_fingerprint()})
    (path / "train.jsonl").write_text('{"iteration": 20}\n')
    (path / "checkpoints/weights.pth").write_bytes(b"weights")
    (path / "checkpoints/iter_000020-12345678.pth").write_bytes(b"checkpoint")
    for name in ("metrics.json", "detections.json.gz", "lock"):
        (path / name).write_text("{}")
    return path


def found(spec: RunSpec, old: Path) -> Path | None:
    return find_training(spec, [old], {})


def test_the_copy_has_the_training_and_no_results(tmp_path: Path) -> None:
    old = write_run(tmp_path, OLD)
    assert NEW.id != OLD.id and found(NEW, old) == old
    new = NEW.directory(tmp_path)
    reuse(NEW, new, old)
    files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
    names = ["checkpoints/weights.pth", "provenance.json", "spec.json", "status.json", "train.jsonl", "trained.json"]
    assert files == names
    assert RunSpec.read(new) == NEW
    assert read_json(new / "trained.json") == {"schema": 1, "run": OLD.id, "dataset_fingerprint": "a" * 64}
    assert (old / "metrics.json").exists() and (old / "checkpoints/iter_000020-12345678.pth").exists()
    assert read_trained(old) is None
    assert sorted(path.name for path in new.parent.iterdir()) == sorted([old.name, new.name])


@pytest.mark.parametrize(
    "spec",
    [
        replace(NEW, dataset={**CORRECTED, "train_fingerprint": "u" * 64}),
        replace(NEW, dataset={key: value for key, value in CORRECTED.items() if key != "train_fingerprint"}),
        replace(NEW, config={"train": {"max_iters": 30}}),
        replace(NEW, seed=1),
        replace(NEW, task=EVALUATE),
        replace(NEW, init={"run": "0123456789"}),
        OLD,
    ],
)
def test_what_differs_in_more_than_validation_annotations_is_trained(tmp_path: Path, spec: RunSpec) -> None:
    assert found(spec, write_run(tmp_path, OLD)) is None


def test_a_training_that_is_incomplete_by_other_code_or_running_is_not_reused(tmp_path: Path) -> None:
    assert found(NEW, write_run(tmp_path / "a", OLD, iteration=19)) is None
    assert found(NEW, write_run(tmp_path / "b", OLD, code="0" * 10)) is None
    without = write_run(tmp_path / "c", OLD)
    (without / "checkpoints/weights.pth").unlink()
    assert found(NEW, without) is None
    running = write_run(tmp_path / "d", OLD)
    with locked(running):
        assert found(NEW, running) is None
    assert found(NEW, running) == running
    (running / "status.json").write_text("{")
    assert found(NEW, running) is None


def test_runs_that_start_from_a_reused_training_are_reused_too(tmp_path: Path) -> None:
    pretrain = replace(OLD, arm="pretrain", config={"train": {"max_iters": 20}, "x": 1})
    old_pretrain = write_run(tmp_path, pretrain)
    old = write_run(tmp_path, replace(OLD, init={"run": pretrain.id}))
    new_pretrain = replace(pretrain, dataset=CORRECTED)
    new = replace(NEW, init={"run": new_pretrain.id})
    assert found(new, old) is None  # the new pretraining may differ
    assert find_training(new_pretrain, [old_pretrain], {}) == old_pretrain
    assert find_training(new, [old], {new_pretrain.id: pretrain.id}) == old

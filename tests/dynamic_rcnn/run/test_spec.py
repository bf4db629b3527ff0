"""A run's identity: what it depends on, what it does not, and finding the run of an identity on disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import SPEC
from dynamic_rcnn.run.spec import (
    EVALUATE,
    NEUTRAL,
    TRAINING_ONLY,
    RunSpec,
    differences,
)

RECORDS = Path(__file__).resolve().parents[3] / "analysis" / "records"

DATASET = {
    "name": "shapes",
    "root": None,
    "stage": "/scratch",
    "fingerprint": "abc",
    "train_fingerprint": "abd",
    "classes": ["disc", "square"],
    **{key: key for key in ("train_ann", "val_ann", "train_img", "val_img")},
}
TRAIN = {
    "max_iters": 20,
    "groups": 2,
    "images_per_group": 2,
    "processes": 1,
    "workers": 0,
    "prefetch": 2,
    "log_interval": 5,
    "checkpoint_interval": 10,
    "keep_checkpoints": 2,
    "val_interval": 0,
    "evaluator": "hotcoco",
}
WEIGHTS = {"sha256": "0" * 64, "file": "/weights.pth"}
TRAIN_CFG = {stage: {"assigner": {"gpu_assign_thr": -1}} for stage in ("rpn", "rcnn")}
CONFIG = {"model": {"type": "A", "heads": [{"lr": 1.0}], "train_cfg": TRAIN_CFG}, "train": TRAIN}


def make(path: str = "", value: Any = None, **fields: Any) -> RunSpec:
    """A spec, with the value at a dotted `path` below dataset or config replaced."""
    content: dict[str, Any] = copy.deepcopy({"dataset": DATASET, "config": CONFIG, "init": fields.pop("init", None)})
    node: Any = content
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    if path:
        node[last] = value
    return RunSpec(**{"arm": "both", "seed": 0, **content, **fields})


def test_every_neutral_field_exists_in_a_spec() -> None:
    for path in NEUTRAL:
        node: Any = {"dataset": DATASET, "config": CONFIG, "init": WEIGHTS}
        for part in path.split("."):
            node = node[part]  # KeyError: a field was renamed, and its neutrality with it lost


@pytest.mark.parametrize("path", NEUTRAL)
def test_a_neutral_field_does_not_change_the_identity(path: str) -> None:
    init = WEIGHTS if path.startswith("init.") else None
    assert make(path, "something else", init=init).id == make(init=init).id
    assert differences(make(init=init), make(path, "something else", init=init)) == []


def test_training_settings_do_not_change_the_identity_of_an_evaluation() -> None:
    own = make(init=WEIGHTS, task=EVALUATE)
    assert make("config.train.images_per_group", 4, init=WEIGHTS, task=EVALUATE).id == own.id
    assert "config.train" in TRAINING_ONLY and own.needs == []
    for path, value in (("config.model.type", "B"), ("dataset.fingerprint", "abd"), ("init.sha256", "1" * 64)):
        assert make(path, value, init=WEIGHTS, task=EVALUATE).id != own.id, path
    assert make(init=WEIGHTS).id != own.id


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    own = make(init=WEIGHTS, task=EVALUATE)
    own.write(tmp_path)
    assert RunSpec.read(tmp_path) == own


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dataset.name", "coco"),
        ("dataset.fingerprint", "abd"),
        ("dataset.classes", ["square", "disc"]),
        ("config.model.type", "B"),
        ("config.model.heads.0.lr", 1.0000001),
        ("config.model.new", None),
        ("config.train.max_iters", 21),
        ("config.train.images_per_group", 4),
    ],
)
def test_a_field_that_changes_the_result_changes_the_identity(path: str, value: Any) -> None:
    changed = make(path, value)
    assert changed.id != make().id
    assert changed.setting != make().setting
    assert len(differences(make(), changed)) == 1


def test_committed_runs_keep_their_identities() -> None:
    specs = sorted(RECORDS.rglob(SPEC))
    assert len(specs) > 10
    for path in specs:
        spec = RunSpec.read(path.parent)
        assert spec.id == json.loads(path.read_text())["id"] == path.parent.name.split("-")[1]
    ids = {path.parent.parent.name: path.parent.name for path in specs if path.parent.name.startswith("seed0")}
    assert (ids["baseline"], ids["both"]) == ("seed0-ac90e59bea", "seed0-ee14af9df5")


def test_seed_and_start_change_the_identity_and_the_arm_does_not() -> None:
    ids = {make().id, make(seed=1).id, make(init={"run": "x"}).id, make(init={"run": "y"}).id}
    assert len(ids) == 4
    assert make(arm="other").id == make().id
    assert make(seed=1).setting == make().setting


def test_differences_name_the_field_and_both_values() -> None:
    other = make("config.train.max_iters", 30, seed=4)
    assert differences(make(), other) == [("config.train.max_iters", 20, 30), ("seed", 0, 4)]
    assert differences(make(), make("config.model.new", 1)) == [("config.model.new", "(absent)", 1)]


def test_a_spec_survives_the_disk(tmp_path: Path) -> None:
    spec = make(seed=3, init={"run": "0123456789"})
    spec.write(tmp_path)
    assert RunSpec.read(tmp_path) == spec
    assert json.loads((tmp_path / SPEC).read_text())["id"] == spec.id


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"config": None}, "config=None: must be a mapping"),
        ({"seed": "0"}, "seed=0: must be an integer"),
        ({"seed": True}, "seed=True: must be an integer"),
        ({"dataset": [], "init": "x"}, r"dataset=\[\]: must be a mapping; init=x: must be a mapping"),
        (
            {"task": "sleep"},
            "task=sleep: must be one of train, pretrain, evaluate, benchmark; if a newer version wrote it",
        ),
    ],
)
def test_a_foreign_spec_is_reported(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    (tmp_path / SPEC).write_text(json.dumps(make().to_dict() | changes))
    with pytest.raises(UserError, match=rf"spec\.json: {fault}"):
        RunSpec.read(tmp_path)

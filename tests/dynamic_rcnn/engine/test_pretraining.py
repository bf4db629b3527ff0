"""A pretraining learns to classify crops, continues bit for bit after a kill, and gives a detector its backbone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from dynamic_rcnn.data import annotations, dataset
from dynamic_rcnn.engine import build, start
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.spec import PRETRAIN, RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from tests.dynamic_rcnn.runs import assert_same_run, prepare, small_spec, train


def pretraining(root: Path, iterations: int = 12) -> RunSpec:
    small = ["base.pretrain.recipe.train_images=24", "base.pretrain.recipe.val_images=8"]
    arguments = ["grid=smoke", "cluster=local", f"dataset.root={root}", *small, "base.train.checkpoint_interval=4"]
    spec = build_grid(resolve(arguments)[0]).pretrain
    assert spec is not None
    train = {**spec.config["train"], "max_iters": iterations, "log_interval": 1, "groups": 1, "images_per_group": 4}
    return dataclasses.replace(spec, config={**spec.config, "train": train})


def test_it_learns_and_continues_bit_for_bit_after_a_kill(tmp_path: Path) -> None:
    spec = pretraining(tmp_path / "data")
    killed, undisturbed = prepare(tmp_path / "runs", spec), prepare(tmp_path / "others", spec)
    assert train(killed, "iteration", 6).returncode != 0
    assert train(killed).returncode == train(undisturbed).returncode == 0
    assert_same_run(killed, undisturbed)
    metrics = read_json(killed / "metrics.json")
    assert metrics["task"] == PRETRAIN and 0 <= metrics["accuracy"] <= 1
    objects = annotations.read_json(dataset.prepare(spec.dataset).root / "annotations" / "val.json")["annotations"]
    assert metrics["objects"] == len(objects)
    rows = read_jsonl(killed / "train.jsonl")
    assert [row["iteration"] for row in rows] == list(range(1, 13)) and all("T" not in row for row in rows)

    detector = small_spec(tmp_path / "data", model__backbone__frozen_stages=1)
    init = {"run": spec.id, "setting": spec.setting, "part": "backbone"}
    detector = dataclasses.replace(detector, init=init)
    run_dir = prepare(tmp_path / "runs", detector)
    model = build.build_model(detector)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start.load_start_weights(model, detector, run_dir)
    trained = torch.load(killed / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained[name] if name.startswith("backbone.") else before[name]), name

    other = dataclasses.replace(detector, init={**init, "part": "neck"})
    with pytest.raises(UserError, match=r"does not fit the neck: .* keys are missing"):
        start.load_start_weights(model, other, run_dir)


def test_crops_are_squares_around_the_objects(tmp_path: Path) -> None:
    model = build.build_model(pretraining(tmp_path))
    boxes = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    model.eval()
    assert model._crops(boxes).tolist() == [[-10.0, 10.0, 50.0, 70.0]]  # 1.5 times 40 pixels around (20, 40)
    model.train()
    crops = torch.cat([model._crops(boxes) for _ in range(500)])
    sides, centers = crops[:, 2:] - crops[:, :2], (crops[:, :2] + crops[:, 2:]) / 2
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert 40 <= sides.min() < 42 and 78 < sides.max() <= 80
    shifts = (centers - torch.tensor([20.0, 40.0])).abs()
    assert 9 < shifts.max() <= 10


def test_every_object_is_classified_by_its_own_crop(tmp_path: Path) -> None:
    model = build.build_model(pretraining(tmp_path)).eval()
    samples = [DetDataSample(), DetDataSample()]
    boxes = [torch.tensor([[0.0, 0.0, 30.0, 30.0], [40.0, 40.0, 90.0, 80.0]]), torch.tensor([[5.0, 5.0, 60.0, 50.0]])]
    for sample, each in zip(samples, boxes, strict=True):
        sample.gt_instances = InstanceData(bboxes=each, labels=torch.arange(len(each)))
    images = torch.randn(2, 3, 96, 96)
    logits, labels = model._classify(images, samples)
    assert labels.tolist() == [0, 1, 0]
    alone, _ = model._classify(images[1:], samples[1:])
    torch.testing.assert_close(logits[2:], alone)
    correct, objects = model.count_correct(images, samples)
    assert (correct, objects) == (int((logits.argmax(1) == labels).sum()), 3)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(model(images, samples)["loss_cls"], expected)
    assert model.train()(images[1:], samples[1:])["loss_cls"].isfinite()  # of a single object

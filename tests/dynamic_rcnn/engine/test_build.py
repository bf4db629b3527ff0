"""Batches are a function of seed and iteration; the R-50 base is mmdet's config with switches."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmengine.config import Config

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.batch import batch_size
from tests.dynamic_rcnn.data.coco_fixture import write_coco
from tests.dynamic_rcnn.runs import plain_config, small_spec


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Any:
    spec = small_spec(tmp_path_factory.mktemp("data"))
    root, _ = dataset.prepare(spec.dataset)
    return build.build_dataset(spec, "train", root)


def batches(images: Any, seed: int = 0, workers: int = 0, grouped: bool = False) -> build.Batches:
    return build.Batches(images, seed, settings(5, workers, grouped), range(1))


def settings(size: int, workers: int = 0, grouped: bool = False, groups: int = 1) -> dict[str, Any]:
    """What Batches reads of the section `train` of a configuration."""
    return {
        **{"groups": groups, "images_per_group": size, "workers": workers, "prefetch": 2},
        "group_by_aspect_ratio": grouped,
    }


def from_position(batches: build.Batches, epoch: int, position: int) -> Iterator[list[Any]]:
    """The batches from a position in an epoch to its end."""
    return batches.between(epoch * len(batches) + position, (epoch + 1) * len(batches))


def content(stream: Any) -> list[Any]:
    """(image id, flipped, sum of pixels) of each sample of all groups, by iteration."""
    return [
        [
            (sample.img_id, sample.flip, int(pixels.long().sum()))
            for batch in batches
            for sample, pixels in zip(batch["data_samples"], batch["inputs"], strict=True)
        ]
        for batches in stream
    ]


@pytest.mark.parametrize("grouped", [False, True])
def test_from_any_position_and_with_any_workers_the_same_samples(images, grouped):
    whole = content(from_position(batches(images, grouped=grouped), 3, 0))
    assert len(whole) == len(batches(images, grouped=grouped)) == 5  # 24 images, the last batch has 4
    assert content(from_position(batches(images, grouped=grouped), 3, 2)) == whole[2:]
    assert content(from_position(batches(images, workers=2, grouped=grouped), 3, 1)) == whole[1:]
    ids = sorted(sample[0] for batch in whole for sample in batch)
    assert ids == sorted(set(ids)) and len(ids) == 24


def test_the_same_workers_load_all_epochs(images):
    stream = batches(images, workers=2).between(3, 12)  # 5 iterations per epoch
    found = content([next(stream)])
    workers = {child.pid for child in multiprocessing.active_children()}
    assert len(workers) == 2
    found += content(islice(stream, 7))
    assert {child.pid for child in multiprocessing.active_children()} == workers
    assert found + content(stream) == content(batches(images).between(3, 12))


@pytest.mark.parametrize("grouped", [False, True])
def test_each_group_has_the_same_images_whichever_process_trains_it(images, grouped):
    """Four groups of two: those that one process lists are those of two processes, group after group."""
    kind = settings(2, grouped=grouped, groups=4)
    whole, first, second = (
        content(from_position(build.Batches(images, 0, kind, own), 1, 0)) for own in (range(4), range(2), range(2, 4))
    )
    assert whole == [left + right for left, right in zip(first, second, strict=True)] and len(whole) == 3
    assert sorted(sample[0] for iteration in whole for sample in iteration) == sorted(
        info["img_id"] for info in (images.get_data_info(number) for number in range(24))
    )


def test_grouping_by_aspect_ratio_resumes_too(tmp_path):
    """On images of which some are tall and some wide, from any position."""
    layout = write_coco(tmp_path, train_images=12)
    spec = small_spec(tmp_path)
    spec = type(spec)("both", 0, {"name": "own", **dataset.coco_format_dataset(tmp_path, layout)}, spec.config)
    odd = build.build_dataset(spec, "train", tmp_path)
    kinds = {odd.get_data_info(i)["width"] < odd.get_data_info(i)["height"] for i in range(len(odd))}
    assert kinds == {True, False}
    grouped = build.Batches(odd, 0, settings(2, grouped=True), range(1))
    whole = content(from_position(grouped, 1, 0))
    assert len(whole) == len(grouped)
    assert content(from_position(grouped, 1, 2)) == whole[2:]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_scale_of_multi_scale_training_is_a_function_of_seed_epoch_and_sample(tmp_path, workers):
    """Sizes and boxes by sample: the same with any workers and from any position, others in another epoch."""
    scales = [[96, 96], [128, 128], [160, 160], [192, 192], [224, 224]]
    spec = small_spec(
        tmp_path,
        data__train_pipeline=[
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True},
            {"type": "RandomChoiceResize", "scales": scales, "keep_ratio": True},
            {"type": "PackDetInputs"},
        ],
    )
    root, _ = dataset.prepare(spec.dataset)
    scaled = build.build_dataset(spec, "train", root)

    def shapes(stream: Any) -> list[Any]:
        return [
            (sample.img_id, sample.img_shape, sample.gt_instances.bboxes.tensor.sum())
            for (batch,) in stream
            for sample in batch["data_samples"]
        ]

    first = shapes(from_position(batches(scaled), 0, 0))
    assert shapes(from_position(batches(scaled, workers=workers), 0, 2)) == first[10:]
    sizes = {shape for _, shape, _ in first}
    assert len(sizes) > 2 and sizes <= {(side, side) for side, _ in scales}
    other = {number: (shape, boxes) for number, shape, boxes in shapes(from_position(batches(scaled), 1, 0))}
    assert any(other[number][0] != shape for number, shape, _ in first)
    for number, shape, boxes in first:  # the boxes are scaled with their image
        theirs = other[number]
        assert float(boxes / shape[0]) == pytest.approx(float(theirs[1] / theirs[0][0]), rel=1e-4)


def test_epochs_and_seeds_differ(images):
    first, second = (content(from_position(batches(images), epoch, 0)) for epoch in (0, 1))
    other = content(from_position(batches(images, seed=1), 0, 0))
    assert first != second != other != first
    flips = {flip for batch in first + second for _, flip, _ in batch}
    assert flips == {True, False}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if key != "backend_args"}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}


def test_the_r50_base_differs_from_mmdets_config_only_in_the_declared_switches():
    path = Path(mmdet.__file__).parent / ".mim/configs/dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py"
    theirs, ours = Config.fromfile(path), plain_config("faster_rcnn_r50_fpn_1x", classes=80)
    left, right = _flat(ours["model"]), _flat(_plain(theirs.model.to_dict()))
    different = {
        key: (left.get(key), right.get(key)) for key in left.keys() | right.keys() if left.get(key) != right.get(key)
    }
    switches = "train_cfg.rcnn.dynamic_rcnn."
    assert different == {
        "roi_head.type": ("dynamic_rcnn.DynamicRoIHead", "DynamicRoIHead"),
        "backbone.stage_with_dcn": ([False] * 4, None),  # ResNet's default, for arms to set
        switches + "label_assignment": (False, None),
        switches + "smooth_l1": (False, None),
        switches + "all_reduce": (False, None),
        switches + "statistic": ("mmdet", None),
        **{f"train_cfg.{stage}.assigner.gpu_assign_thr": (-1, None) for stage in ("rpn", "rcnn")},  # mmdet's default
    }
    assert ours["data"]["train_pipeline"] == _plain(theirs.train_pipeline)
    assert ours["param_scheduler"] == _plain(theirs.param_scheduler)
    optimizer = _plain(theirs.optim_wrapper.to_dict())
    assert {**optimizer, "clip_grad": None} == ours["optim_wrapper"]
    assert ours["train"]["max_epochs"] == theirs.train_cfg.max_epochs == 12
    assert batch_size(ours["train"]) == theirs.auto_scale_lr.base_batch_size == 16


def test_a_data_set_with_gaps_crowds_empty_and_grey_images_is_loaded(tmp_path):
    """Everything that COCO format allows reaches the model as a three-channel image with labels below the classes."""
    layout = write_coco(tmp_path, train_images=6, val_images=4)
    spec = small_spec(tmp_path)
    described = dataset.coco_format_dataset(tmp_path, layout)
    spec = type(spec)("both", 0, {"name": "own", **described}, spec.config)
    train = build.build_dataset(spec, "train", tmp_path)
    val = build.build_dataset(spec, "val", tmp_path)
    assert 0 < len(train) <= 6 and len(val) == 4  # images without boxes are for evaluation only
    for index in range(len(train)):
        sample = train[index]
        assert sample["inputs"].shape[0] == 3 and sample["inputs"].dtype == torch.uint8
        labels = sample["data_samples"].gt_instances.labels
        assert len(labels) > 0 and int(labels.max()) < len(described["classes"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("param_scheduler", [{"type": "Nope"}], "base.param_scheduler[0].type=Nope: unknown; valid: ConstantLR, "),
        (
            "param_scheduler",
            [{"type": "LinearLR", "start_factor": 0.1, "begin": 5, "end": 3}],
            "base.param_scheduler[0]={'type': 'LinearLR', 'start_factor': 0.1, 'begin': 5, 'end': 3}: cannot be built: "
            "end should be larger than begin",
        ),
        ("optim_wrapper.optimizer.type", "Nope", "base.optim_wrapper.optimizer.type=Nope: unknown; valid: ASGD, "),
        ("optim_wrapper.type", "Nope", "base.optim_wrapper.type=Nope: unknown; valid: AmpOptimWrapper, "),
        ("optim_wrapper.optimizer.momentum", -1, "cannot be built: Invalid momentum value: -1"),
        ("model.backbone.type", "Nope", "base.model.backbone.type=Nope: unknown; mmdet has no such model"),
        ("model.backbone.depth", 17, "base.model: cannot be built: invalid depth 17 for resnet"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_one_line(tmp_path, field, value, message):
    spec = small_spec(tmp_path, **{field.replace(".", "__"): value})
    with pytest.raises(UserError) as caught:
        build.build_schedulers(spec, build.build_optimizer(spec, build.build_model(spec, initialise=False)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"foreach": True}, {"nesterov": True}], ids=str)
def test_the_optimizer_is_sgd_in_one_pass_unless_configured(tmp_path, settings):
    spec = small_spec(tmp_path)
    spec.config["optim_wrapper"]["optimizer"].update(settings)
    layer = torch.nn.Linear(70, 30)
    plain = copy.deepcopy(layer)
    optimizer = build.build_optimizer(spec, layer).optimizer
    assert optimizer.defaults["fused"] is (None if "foreach" in settings else True)
    given = {name: value for name, value in spec.config["optim_wrapper"]["optimizer"].items() if name != "type"}
    reference = torch.optim.SGD(plain.parameters(), **given)
    for _ in range(3):
        for mine, other in zip(layer.parameters(), plain.parameters(), strict=True):
            other.grad = torch.randn_like(other)
            mine.grad = other.grad.clone()
        optimizer.step()
        reference.step()
    torch.testing.assert_close(layer.state_dict(), plain.state_dict(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "Nope"}, "base.data.train_pipeline[0].type=Nope: unknown; mmdet has no such transform"),
        (
            {"type": "RandomFlip", "prob": 2.0},
            "base.data.train_pipeline=[{'type': 'RandomFlip', 'prob': 2.0}]: cannot be",
        ),
    ],
)
def test_a_transform_that_cannot_be_built_is_one_line(tmp_path, step, message):
    spec = small_spec(tmp_path, data__train_pipeline=[step])
    root, _ = dataset.prepare(spec.dataset)
    with pytest.raises(UserError) as caught:
        build.build_dataset(spec, "train", root)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

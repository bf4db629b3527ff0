"""The grids' models on COCO: each dynamic arm beside mmdet's own config, and a training step of each kind of model."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from dynamic_rcnn.engine import build
from dynamic_rcnn.run.batch import batch_size
from dynamic_rcnn.run.spec import RunSpec, flatten
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from tests.experiments.coco_layout import write_coco_2017

CONFIGS = Path(mmdet.__file__).parent / ".mim/configs"
RCNN, HEAD = "train_cfg.rcnn.", "roi_head.bbox_head.loss_bbox."
# the differences between mmdet's Faster R-CNN and its Dynamic R-CNN, with this project's head
METHOD = {
    "roi_head.type": ("dynamic_rcnn.DynamicRoIHead", "StandardRoIHead"),
    f"{HEAD}type": ("SmoothL1Loss", "L1Loss"),
    f"{HEAD}beta": (1.0, None),
    "train_cfg.rpn_proposal.nms.iou_threshold": (0.85, 0.7),
    "test_cfg.rpn.nms.iou_threshold": (0.85, 0.7),
    f"{RCNN}dynamic_rcnn.label_assignment": (True, None),
    f"{RCNN}dynamic_rcnn.smooth_l1": (True, None),
    f"{RCNN}dynamic_rcnn.all_reduce": (False, None),
    f"{RCNN}dynamic_rcnn.statistic": ("mmdet", None),
    f"{RCNN}dynamic_rcnn.iou_topk": (75, None),
    f"{RCNN}dynamic_rcnn.beta_topk": (10, None),
    f"{RCNN}dynamic_rcnn.update_iter_interval": (100, None),
    f"{RCNN}dynamic_rcnn.initial_iou": (0.4, None),
    f"{RCNN}dynamic_rcnn.initial_beta": (1.0, None),
    **{f"train_cfg.{stage}.assigner.gpu_assign_thr": (-1, None) for stage in ("rpn", "rcnn")},  # mmdet's default
}
NO_DCN = {"backbone.stage_with_dcn": ([False] * 4, None)}  # ResNet's default
LOW_QUALITY = {f"{RCNN}assigner.match_low_quality": (False, True)}  # as in mmdet's Faster and Dynamic R-CNN
R101 = {
    "backbone.depth": (101, 50),
    "backbone.init_cfg.checkpoint": ("torchvision://resnet101", "torchvision://resnet50"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    write_coco_2017(folder)
    return folder


@cache
def on_coco(name: str, root: Path) -> Grid:
    settings = [f"grid={name}", "dataset=coco", f"dataset.root={root}", "cluster=local", "cluster.processes=8"]
    return build_grid(resolve(settings)[0])


def theirs(file: str) -> Config:
    return Config.fromfile(CONFIGS / file)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "backend_args"}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def different(ours: dict[str, Any], others: Any) -> dict[str, tuple[Any, Any]]:
    left, right = flatten(ours), flatten(plain(others.to_dict()))
    return {key: (left.get(key), right.get(key)) for key in {**left, **right} if left.get(key) != right.get(key)}


@pytest.mark.parametrize(
    ("grid", "arm", "file", "declared"),
    [
        ("backbones", "r50_1x_dynamic", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", NO_DCN),
        ("backbones", "r50_2x_dynamic", "faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py", NO_DCN),
        ("backbones", "r101_1x_dynamic", "faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py", NO_DCN),
        ("backbones", "r101_2x_dynamic", "faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py", NO_DCN),
        ("mask", "r50_dynamic", "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", {**NO_DCN, **LOW_QUALITY}),
        ("mask", "r101_dynamic", "mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py", {**NO_DCN, **LOW_QUALITY}),
    ],
)
def test_a_dynamic_arm_matches_mmdets_config(
    root: Path, grid: str, arm: str, file: str, declared: dict[str, Any]
) -> None:
    ours, config = on_coco(grid, root).specs[arm].config, theirs(file)
    found = different(ours["model"], config.model)
    print(arm, file, *found.items(), sep="\n    ")
    assert found == {**METHOD, **declared}
    assert ours["data"]["train_pipeline"] == plain(config.train_pipeline)
    assert ours["param_scheduler"] == plain(config.param_scheduler)
    assert ours["train"]["max_epochs"] == config.train_cfg.max_epochs
    assert batch_size(ours["train"]) == config.auto_scale_lr.base_batch_size
    assert ours["optim_wrapper"] == {**plain(config.optim_wrapper.to_dict()), "clip_grad": None}


@pytest.mark.parametrize(
    ("arm", "file", "declared"),
    [
        ("r101_3x_mst_dynamic", "faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py", NO_DCN),
        ("r101_dcn_3x_mst_dynamic", "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py", R101),
        ("r101_dcnv1_3x_mst_dynamic", "dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py", R101),
    ],
)
def test_models_with_mst_match_mmdet_except_for_scales_and_schedule(
    root: Path, arm: str, file: str, declared: dict[str, Any]
) -> None:
    """mmdet's ms-3x has other scales and, as 3 x 12 epochs, other steps: after 27 and 33 of 36."""
    ours, config = on_coco("backbones", root).specs[arm].config, theirs(file)
    found = different(ours["model"], config.model)
    print(arm, file, *found.items(), sep="\n    ")
    assert found == {**METHOD, **declared}
    published = plain(theirs("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py").train_pipeline)
    scales = [[1400, side] for side in (400, 600, 800, 1000, 1200)]
    mst = {"type": "RandomChoiceResize", "scales": scales, "keep_ratio": True}
    assert ours["data"]["train_pipeline"] == [mst if each["type"] == "Resize" else each for each in published]
    assert ours["train"]["max_epochs"] == 36 == ours["param_scheduler"][1]["end"]
    assert ours["param_scheduler"][1]["milestones"] == [24, 33]
    assert {**ours["param_scheduler"][1], "end": 12, "milestones": [8, 11]} == plain(
        theirs("_base_/schedules/schedule_1x.py").param_scheduler[1]
    )


def tiny(spec: RunSpec) -> RunSpec:
    """The same model without ImageNet weights, on images a tenth as large."""
    config = copy.deepcopy(spec.config)
    config["model"]["backbone"]["init_cfg"] = None
    for step in config["data"]["train_pipeline"]:
        if "scale" in step:
            step["scale"] = [side // 10 for side in step["scale"]]
        if "scales" in step:
            step["scales"] = [[side // 10 for side in scale] for scale in step["scales"]]
    config["data"]["filter_cfg"]["min_size"] = 20
    return replace(spec, config=config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "arm"),
    [("backbones", "r101_1x_dynamic"), ("backbones", "r101_dcn_3x_mst_dynamic"), ("mask", "r101_dynamic")],
)
def test_a_full_size_model_takes_a_training_step(root: Path, grid: str, arm: str) -> None:
    spec = tiny(on_coco(grid, root).specs[arm])
    model: Any = build.build_model(spec)
    model.train()
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            parameter.data.fill_(0.2)  # without ImageNet weights, residual branches begin as 0 and get no gradients
    dcn = [name for name, _ in model.named_modules() if name.endswith("conv_offset")]
    assert len(dcn) == (30 if "dcn" in arm else 0)  # each block's 3 x 3 convolution: 4 in stage 3, 23 in 4, 3 in 5
    images = build.build_dataset(spec, "train", root)
    optimizer = build.build_optimizer(spec, model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logs = model.train_step(pseudo_collate([images[0], images[1]]), optimizer)
    assert torch.isfinite(logs["loss"])
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert "backbone.layer3.22.conv2.weight" in moved
    assert [name for name in dcn if f"{name}.weight" not in moved or f"{name}.bias" not in moved] == []

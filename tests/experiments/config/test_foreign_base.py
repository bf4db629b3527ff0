"""Bases from mmdet's configs: what they become, that runs do not depend on them, and what is refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import canonical, differences
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.conf_files import load_base
from experiments.config.foreign_base import TEMPLATE, find_config, load_foreign
from experiments.config.grid import Grid
from experiments.config.mmdet_config import find_faults, to_base
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.foreign_configs import write_config

SWITCHES = "config.model.train_cfg.rcnn.dynamic_rcnn."


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "coco"
    write_coco_2017(root)
    return root


def resolved(base: object, coco: Path, *more: str) -> tuple[Grid, list[str]]:
    given = ["grid=ablation", f"base={base}", "dataset=coco", f"dataset.root={coco}", "cluster=local", *more]
    config, lines = resolve(given)
    return build_grid(config), lines


def content(name: str) -> dict[str, Any]:
    """A deep copy of what a config of mmdet resolves to."""
    return copy.deepcopy(load_foreign(f"mmdet:{name}", find_config(f"mmdet:{name}")))


def test_a_config_of_mmdet_by_its_name(coco: Path) -> None:
    grid, lines = resolved("mmdet:faster-rcnn_r101_fpn_1x_coco", coco)
    baseline, both = (grid.specs[arm] for arm in ("baseline", "both"))
    model = baseline.config["model"]
    assert model["roi_head"]["type"] == "dynamic_rcnn.DynamicRoIHead" and model["backbone"]["depth"] == 101
    assert model["backbone"]["init_cfg"] == {"type": "Pretrained", "checkpoint": "torchvision://resnet101"}
    assert model["roi_head"]["bbox_head"]["num_classes"] == 80  # the data set's
    fields = {field: (one, other) for field, one, other in differences(baseline, both)}
    assert fields == {SWITCHES + name: (False, True) for name in ("label_assignment", "smooth_l1")}
    assert model["train_cfg"]["rpn_proposal"]["nms"]["iou_threshold"] == 0.7  # the config's own
    train = baseline.config["train"]
    assert [train[name] for name in ("groups", "images_per_group", "max_epochs")] == [8, 2, 12]
    assert grid.base == "mmdet:faster-rcnn_r101_fpn_1x_coco" and grid.changed == [] and grid.seconds == {}
    assert any("image pipelines, batch, optimizer and schedule are those of faster-rcnn_r101" in line for line in lines)
    assert any("SmoothL1Loss with beta 1.0 in every arm, not the config's L1Loss" in line for line in lines)


def test_mmdets_dynamic_rcnn_is_the_suites_base() -> None:
    """The only differences of what the config becomes from faster_rcnn_r50_fpn_1x are fields that arms need."""
    ours, theirs = load_base(TEMPLATE), load_base("mmdet:dynamic-rcnn_r50_fpn_1x_coco")
    backbone = {name: ours["model"]["backbone"][name] for name in theirs["model"]["backbone"]}
    ours = copy.deepcopy({**ours, "model": {**ours["model"], "backbone": backbone}})
    for part in ("rpn", "rcnn"):
        assert ours["model"]["train_cfg"][part]["assigner"].pop("gpu_assign_thr") == -1  # mmdet's default
    assert theirs == ours


def test_a_config_file_of_ones_own_is_frozen_into_the_spec(coco: Path, tmp_path: Path) -> None:
    """The id is that of the content: not of the file's name or place."""
    first, other = tmp_path / "one", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    runs = [resolved(write_config(folder, "cascade"), coco)[0].specs["both"] for folder in (first, other)]
    assert runs[0].id == runs[1].id and str(tmp_path / "one") not in canonical(runs[0].config)
    rcnn = runs[0].config["model"]["train_cfg"]["rcnn"]
    assert [stage["assigner"]["pos_iou_thr"] for stage in rcnn["stages"]] == [0.5, 0.6, 0.7]
    assert (rcnn["dynamic_rcnn"]["initial_iou"], rcnn["dynamic_rcnn"]["stages"]) == (None, "all")
    changed = write_config(other, "cascade", more="model['backbone']['depth'] = 34\n").rename(other / "deeper.py")
    assert resolved(changed, coco)[0].specs["both"].id != runs[0].id


def test_the_schedule_and_the_optimizer_are_the_configs(coco: Path) -> None:
    config = resolved("mmdet:mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco", coco)[0].specs["baseline"].config
    assert config["optim_wrapper"]["optimizer"]["type"] == "AdamW" and config["train"]["max_epochs"] == 36
    assert "absolute_pos_embed" in config["optim_wrapper"]["paramwise_cfg"]["custom_keys"]
    assert [step["type"] for step in config["data"]["train_pipeline"]][2:4] == ["RandomFlip", "RandomChoice"]
    assert "LoadAnnotations" not in [step["type"] for step in config["data"]["test_pipeline"]]


REFUSED = {  # what is set in the config -> the message
    "custom_hooks": ([{"type": "EMAHook"}, {"type": "MyHook"}], "custom_hooks=EMAHook, MyHook: hooks are not run"),
    "custom_imports": (
        {"imports": ["mine"]},
        "custom_imports={'imports': ['mine']}: only classes of mmdet can be built",
    ),
    "tta_model": ({"type": "DetTTAModel"}, "tta_model=DetTTAModel: the grid test_time has test-time augmentation; re"),
    "load_from": ("a.pth", "load_from=a.pth: all arms start from the backbone's weights"),
    "train_cfg.type": (
        "TeacherStudentValLoop",
        "train_cfg.type=TeacherStudentValLoop: not supported; valid: EpochBased",
    ),
    "optim_wrapper.type": (
        "AmpOptimWrapper",
        "optim_wrapper.type=AmpOptimWrapper: use OptimWrapper, and base.train.pre",
    ),
    "optim_wrapper.accumulative_counts": (
        4,
        "optim_wrapper.accumulative_counts=4: not supported; valid: clip_grad, op",
    ),
    "default_hooks.checkpoint.type": (
        "MyHook",
        "default_hooks.checkpoint.type=MyHook: not supported; valid: Checkpoint",
    ),
    "train_dataloader.sampler.type": ("ClassAwareSampler", "train_dataloader.sampler.type=ClassAwareSampler: not supp"),
    "train_dataloader.dataset.type": ("RepeatDataset", "train_dataloader.dataset.type=RepeatDataset: must be a plain"),
    "train_dataloader.batch_size": (3, "base_batch_size=16: must be a multiple of train_dataloader.batch_size=3"),
    "model.type": ("PanopticFPN", "model.type=PanopticFPN: not supported; valid: CascadeRCNN, FasterRCNN"),
    "model.roi_head.type": ("PISARoIHead", "model.roi_head.type=PISARoIHead: not supported; valid: CascadeRoIHead"),
    "model.roi_head.bbox_head.bbox_coder.type": ("BucketingBBoxCoder", "bbox_coder.type=BucketingBBoxCoder: not supp"),
    "model.backbone.norm_cfg.type": (
        "SyncBN",
        "model.backbone.norm_cfg.type=SyncBN: each group of images is normalised",
    ),
    "model.backbone.type": (
        "mmpretrain.ConvNeXt",
        "model.backbone.type=mmpretrain.ConvNeXt: only classes of mmdet can",
    ),
    "model.rpn_head": (None, ""),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_honoured_is_refused_by_name(field: str) -> None:
    config = content("faster-rcnn_r50_fpn_1x_coco")
    assert find_faults(config) == []
    value, message = REFUSED[field]
    *parents, last = field.split(".")
    node = config
    for name in parents:
        node = node[name]
    node[last] = value
    if value is None:
        del node[last]
        message = "model: must be a two-stage detector, with rpn_head and roi_head"
    (fault,) = find_faults(config)
    assert message in fault


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mmdet:retinanet_r50_fpn_1x_coco", "model: must be a two-stage detector, with rpn_head and roi_head"),
        ("mmdet:faster-rcnn_r50_fpn_1x_cooc", "mmdet has no such config (did you mean 'faster-rcnn_r50_fpn_1x_coco'?)"),
        ("missing.py", "base=missing.py: no such file; give the path of a config file, or mmdet:NAME"),
        ("{folder}/broken.py", "broken.py: cannot be read as a config of mmdet (SyntaxError: "),
        ("{folder}/new.py", "new.py: inherits by read_base(); write it with _base_"),
        ("{folder}/parent.py", "cannot be read as a config of mmdet (FileNotFoundError: "),
    ],
)
def test_a_base_that_cannot_be_used_is_one_line(base: str, message: str, coco: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("model = dict(\n")
    (tmp_path / "new.py").write_text("with read_base():\n    from .x import *\n")
    (tmp_path / "parent.py").write_text("_base_ = 'nowhere.py'\n")
    with pytest.raises(UserError) as caught:
        resolved(base.format(folder=tmp_path), coco)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_dsl_needs_a_loss_with_a_beta(coco: Path) -> None:
    """Libra R-CNN's loss has none: the arm is named when launching, not when its run starts."""
    with pytest.raises(
        UserError, match=r"grid.arms.dsl: dynamic_rcnn.smooth_l1=true: needs .* not BalancedL1Loss; set"
    ):
        resolved("mmdet:libra-faster-rcnn_r50_fpn_1x_coco", coco)
    grid, _ = resolved("mmdet:libra-faster-rcnn_r50_fpn_1x_coco", coco, "arms=[baseline,dla]")
    assert [run.arm for run in grid.runs if run.seed == 0] == ["baseline", "dla"]


def test_a_replay_of_a_cascade_is_refused(coco: Path) -> None:
    arms = ["++grid.arms.replay={title: replay, set: {}, replay: both}"]
    with pytest.raises(UserError, match="arm replay: replays both, whose stages each have a T and beta: not supported"):
        resolved("mmdet:cascade-rcnn_r50_fpn_1x_coco", coco, *arms)


def test_a_base_is_a_function_of_the_config_alone() -> None:
    config, template = content("cascade-rcnn_r50_fpn_1x_coco"), load_base(TEMPLATE)
    before = copy.deepcopy((config, template))
    assert to_base(config, template) == to_base(config, template) and (config, template) == before

"""Every arm of every grid of the paper takes a training step on shapes, with the method that its name stands for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve

GRIDS = ("iou_topk", "interval", "beta", "controls", "backbones", "mask", "cascade")


@cache
def arms(grid: str) -> dict[str, RunSpec]:
    return build_grid(resolve([f"grid={grid}", "dataset=shapes", "cluster=local"])[0]).specs


CASES = [(grid, arm) for grid in GRIDS for arm in arms(grid)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = f"dataset.root={tmp_path_factory.mktemp('data')}"
    spec = build_grid(resolve(["grid=smoke", "cluster=local", place])[0]).runs[0]
    return dataset.prepare(spec.dataset)[0]


def batch(spec: RunSpec, root: Path) -> Any:
    """Four images from the pipeline of the arm."""
    found = build.SeededDataset(build.build_dataset(spec, "train", root), spec.seed)
    return pseudo_collate([found[index, 0] for index in range(4)])


def expected(grid: str, arm: str) -> tuple[float, float]:
    """T and beta before the first update; 0 for a loss without beta."""
    fixed = {"faster_rcnn": 0.0, "l1": 0.0, "beta_2": 2.0, **{f"beta_1_{n}": 1 / n for n in (2, 4, 6, 9)}}
    return (float(arm[2:]) / 100 if arm.startswith("t_") else 0.5), fixed.get(arm, 1.0)


@pytest.mark.parametrize(("grid", "arm"), CASES)
def test_an_arm_trains(grid: str, arm: str, root: Path) -> None:
    spec = arms(grid)[arm]
    model = build.build_model(spec)
    model.train()
    optimizer = build.build_optimizer(spec, model)
    head: Any = model.roi_head
    before = head.current_thresholds()
    assert (before["T"], before["beta"]) == pytest.approx(expected(grid, arm))
    interval = head.schedules[0].update_iter_interval
    head.schedules[0].iou_window = [torch.tensor([0.7])] * (interval - 1)  # as if the window were nearly full
    head.schedules[0].error_window = [torch.tensor(0.2)] * (interval - 1)
    logs = model.train_step(batch(spec, root), optimizer)
    assert torch.isfinite(logs["loss"]) and ("loss_mask" in logs) == spec.has_masks
    after, method = head.current_thresholds(), spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    assert (after["T"] != before["T"]) == method["label_assignment"]
    assert (after["beta"] != before["beta"]) == method["smooth_l1"]

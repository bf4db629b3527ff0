"""When a training run saves, logs and evaluates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dynamic_rcnn.engine.trainer import TrainingRun
from experiments.config.conf_files import load_base


@pytest.mark.parametrize(("interval", "expected"), [(0, [10]), (3, [3, 6, 9, 10]), ("epoch", [4, 8, 10])])
def test_an_interval_counts_iterations_or_is_an_epoch(interval: Any, expected: list[int]) -> None:
    """10 iterations with 4 per epoch."""
    run: Any = SimpleNamespace(settings={"val_interval": interval}, batches=range(4), max_iterations=10)
    due = []
    for run.iteration in range(1, 11):
        due += [run.iteration] if TrainingRun._due(run, "val_interval") else []
    assert due == expected


def test_coco_is_evaluated_after_each_epoch_and_shapes_at_the_end() -> None:
    bases = ("faster_rcnn_r50_fpn_1x", "mask_rcnn_r50_fpn_1x", "shapes_r18_fpn")
    assert [load_base(name)["train"]["val_interval"] for name in bases] == ["epoch", "epoch", 0]

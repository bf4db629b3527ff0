"""Timing runs: the order of the arms, and the batches of a round."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build, timing_run
from dynamic_rcnn.engine.ending import UncheckedLosses
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.engine.timing_run import Meter, TimingRun, draw_order, load_images
from dynamic_rcnn.errors import InterruptedRunError
from tests.dynamic_rcnn.runs import small_spec


def test_the_order_depends_on_the_seed_and_every_arm_is_first_equally_often() -> None:
    arms = ["baseline", "both", "cascade"]
    orders = [draw_order(arms, 0, "training", number) for number in range(3000)]
    assert orders[:5] == [draw_order(arms, 0, "training", number) for number in range(5)]
    assert orders[:20] != [draw_order(arms, 1, "training", number) for number in range(20)]
    assert all(sorted(each) == arms for each in orders)
    first = Counter(each[0] for each in orders)
    assert all(900 < first[arm] < 1100 for arm in arms)  # sd 26


def test_batches_continue_across_epochs_and_images_after_the_last(tmp_path: Path) -> None:
    spec = small_spec(tmp_path)
    root, _ = dataset.prepare(spec.dataset)
    batches = build.Batches(
        build.build_dataset(spec, "train", root), 0, {**spec.config["train"], "images_per_group": 5}, range(1)
    )

    def ids(first: int, count: int) -> list[list[int]]:
        return [
            [sample.img_id for sample in batch["data_samples"]] for (batch,) in batches.between(first, first + count)
        ]

    whole = ids(0, 2 * len(batches))
    assert len(whole) == 2 * len(batches) and whole[: len(batches)] != whole[len(batches) :]
    assert ids(len(batches) - 1, 3) == whole[len(batches) - 1 : len(batches) + 2]
    images = build.build_dataset(spec, "val", root)
    found = [batch["data_samples"][0].img_id for batch in load_images(images, len(images) - 1, 3)]
    everyone = [images[number]["data_samples"].img_id for number in range(len(images))]
    assert found == [everyone[-1], everyone[0], everyone[1]]


def test_a_cpu_has_no_peak_memory() -> None:
    meter, done = Meter(torch.device("cpu")), []
    seconds, peak = meter.time(lambda: done.append(sum(range(100_000))), 0)
    assert done and seconds > 0 and peak is None and meter.allocated() == 0


@pytest.mark.parametrize("part", ["inference", "training"])
def test_a_signal_while_an_arm_is_built_ends_the_run_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Also where an arm does nothing before its first block, so that no iteration would notice."""
    small, settings = small_spec(tmp_path / "data"), {"warmup": 0, "rounds": 2, "images": 1, "iterations": 1}
    arms = ["baseline", "both", "cascade"]
    benchmark = {"baseline": "baseline", "inference": settings, "training": {**settings, "arms": arms}}
    models = dict.fromkeys(arms, small.config["model"])
    spec = replace(small, config={**small.config, "benchmark": benchmark, "arms": models})
    stop, built = StopSignal(), []

    class Arm:
        def __init__(self, arm: Any, device: torch.device, losses: Any = None) -> None:
            built.append(arm)
            stop.received = len(built) == 2

        def calibrate(self, batches: list[Any]) -> None:
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing_run, "InferenceArm" if part == "inference" else "TrainingArm", Arm)
    run = TimingRun(spec, stop, UncheckedLosses())
    stop.only_note()
    with pytest.raises(InterruptedRunError, match="stopped by a signal after 0 blocks; it will start over"):
        run._time_inference() if part == "inference" else run._time_training()
    assert len(built) == 2

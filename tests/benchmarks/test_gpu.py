"""The GPU benchmark with a small model on a CPU: every comparison, the record and the table; no test asserts a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from benchmarks import coco_images, gpu
from dynamic_rcnn.data import coco_format
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import read_content
from dynamic_rcnn.run.gpu_times import GPU_TIMES, GpuTimes

ARMS = {
    "components": ["baseline", "both"],
    "peer": ["mmdet", "suite"],
    "precision": ["fp32", "bf16"],  # the others need a GPU
    "deterministic": ["off", "on"],
    "loading": ["loaded", "workers_1", "workers_2"],
}


@pytest.fixture
def flags() -> Iterator[None]:
    """Restores torch's global flags."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_every_comparison_is_timed_recorded_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: None
) -> None:
    monkeypatch.setattr(gpu, "select_device", lambda: torch.device("cpu"))
    small = ["minutes=100000", "rounds=2", "iterations=1", "warmup=2", "workers=1,2", "tiny=true"]
    assert gpu.main([*small, f"out={tmp_path / GPU_TIMES}"]) == 0
    record = read_content(GpuTimes, tmp_path / GPU_TIMES)
    assert record.base == "shapes_r18_fpn" and record.origin.device == "cpu"
    assert record.origin.command == f"python -m benchmarks.gpu {' '.join(small)} out={tmp_path / GPU_TIMES}"
    assert {name: list(each.arms) for name, each in record.comparisons.items()} == ARMS
    assert all(each.reference == ARMS[name][0] for name, each in record.comparisons.items())
    for name, each in record.comparisons.items():
        assert {arm: sorted(rounds) for arm, rounds in each.seconds.items()} == {key: [0, 1] for key in ARMS[name]}
    printed = capsys.readouterr().out
    rows = [(name, arm) for name, arms in ARMS.items() for arm in arms]
    assert re.findall(r"^(\w+) +(\w+) +[\d.]+ +[\d.]+ +(?:\[[\d.]+, [\d.]+\])? *$", printed, flags=re.M) == rows


def test_without_a_gpu_the_full_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "select_device", lambda: torch.device("cpu"))
    with pytest.raises(UserError, match=r"^torch sees no GPU .*; tiny=true tries this script on a CPU$"):
        gpu.main([])


def test_drawn_images_are_a_data_set_in_cocos_layout(tmp_path: Path) -> None:
    """With about as many boxes and bytes per image as COCO."""
    paths = coco_images.draw(tmp_path, 12, 2, 640, 480, seed=0)
    assert coco_format.validate(tmp_path, **paths, training=True, masks=False, min_size=32) == []
    files = sorted((tmp_path / "train2017").iterdir())
    assert len(files) == 12 and cv2.imread(str(files[0])).shape == (480, 640, 3)
    assert 80_000 < sum(file.stat().st_size for file in files) / 12 < 300_000
    again = coco_images.draw(tmp_path / "again", 12, 2, 640, 480, seed=0)
    for name in (paths["train_ann"], "train2017/000000000007.jpg"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes() and again == paths

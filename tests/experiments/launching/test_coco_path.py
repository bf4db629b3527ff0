"""COCO's whole path, on data in its exact layout: R-50 runs are stopped, resume, evaluate and are reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynamic_rcnn.run.files import read_json
from tests.experiments.coco_layout import write_coco_2017

PROJECT = Path(__file__).resolve().parents[3]
RESIZE = "{type: Resize, scale: [128, 96], keep_ratio: true}"
META = "meta_keys: [img_id, img_path, ori_shape, img_shape, scale_factor]"
TRAIN_PIPELINE = (
    "base.data.train_pipeline=[{type: LoadImageFromFile}, {type: LoadAnnotations, with_bbox: true}, "
    f"{RESIZE}, {{type: RandomFlip, prob: 0.5}}, {{type: PackDetInputs}}]"
)
SMALL = (
    *("base.train.max_iters=8", "base.train.max_epochs=null", "base.train.batch_size=2", "base.train.workers=0"),
    *("base.train.checkpoint_interval=2", "base.train.log_interval=1", "base.optim_wrapper.optimizer.lr=0.0025"),
    *("base.model.backbone.init_cfg=null", "base.data.filter_cfg.min_size=20"),
    "base.param_scheduler=[{type: LinearLR, start_factor: 0.1, by_epoch: false, begin: 0, end: 3}]",
    TRAIN_PIPELINE,
    f"base.data.test_pipeline=[{{type: LoadImageFromFile}}, {RESIZE}, {{type: PackDetInputs, {META}}}]",
)


def start(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / "experiments" / "launch.py"), "dataset=coco", "cluster=local"]
    command += [f"dataset.root={tmp_path / 'coco'}", f"runs={tmp_path / 'runs'}", "seeds=[0]", *SMALL, *more]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def iterations(tmp_path: Path) -> list[int]:
    """Of the runs that have begun."""
    found = (tmp_path / "runs" / "coco").glob("*/seed0-*/status.json")
    return [read_json(path)["iteration"] for path in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "arms"),
    [("ablation", "baseline,dla,dsl,both"), ("controls", "baseline,faster_rcnn,t_60"), ("mask", "r50,r50_dynamic")],
)
def test_r50_runs_on_coco_are_stopped_resumed_evaluated_and_reported(tmp_path: Path, grid: str, arms: str) -> None:
    """All at once, so that each of them is stopped and resumes."""
    write_coco_2017(tmp_path / "coco")
    count = len(arms.split(","))
    settings = [f"grid={grid}", f"arms=[{arms}]", f"cluster.slots={count}", "cluster.threads=1"]
    if grid == "mask":
        settings.append(TRAIN_PIPELINE.replace("with_bbox: true", "with_bbox: true, with_mask: true"))
    first = start(tmp_path, *settings)
    deadline = time.monotonic() + 300
    while len(found := iterations(tmp_path)) < count or min(found) < 1:
        assert time.monotonic() < deadline and first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130
    second = start(tmp_path, *settings)
    assert second.wait(900) == 0, second.communicate()[0]
    statuses = [read_json(path) for path in (tmp_path / "runs" / "coco").glob("*/seed0-*/status.json")]
    assert [status["state"] for status in statuses] == ["done"] * count
    assert [len(status["attempts"]) for status in statuses] == [2] * count
    report = [sys.executable, str(PROJECT / "analysis" / "report.py")]
    page = tmp_path / "REPORT.md"
    assert subprocess.run([*report, f"runs={tmp_path / 'runs'}", f"out={page}"]).returncode == 0
    headline = next(line for line in page.read_text().splitlines() if line.startswith("| 38.9 AP"))
    assert "**NOT RUN**" in headline and ("NOT COMPARABLE" in headline) == (grid == "ablation")
    assert "measured" not in headline

"""R-50 runs on data in the layout of COCO: stopped, resumed, evaluated and reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import read_json
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.launches import wait_until

PROJECT = Path(__file__).resolve().parents[3]
RESIZE = "{type: Resize, scale: [128, 96], keep_ratio: true}"
META = "meta_keys: [img_id, img_path, ori_shape, img_shape, scale_factor]"
TRAIN_PIPELINE = (
    "base.data.train_pipeline=[{type: LoadImageFromFile}, {type: LoadAnnotations, with_bbox: true}, "
    f"{RESIZE}, {{type: RandomFlip, prob: 0.5}}, {{type: PackDetInputs}}]"
)
SMALL = (
    *(
        "base.train.max_iters=8",
        "base.train.max_epochs=null",
        "base.train.groups=1",
        "base.train.images_per_group=2",
        "base.train.workers=0",
    ),
    *("base.train.checkpoint_interval=2", "base.train.log_interval=1", "base.optim_wrapper.optimizer.lr=0.0025"),
    *("base.model.backbone.init_cfg=null", "base.data.filter_cfg.min_size=20"),
    "base.param_scheduler=[{type: LinearLR, start_factor: 0.1, by_epoch: false, begin: 0, end: 3}]",
    TRAIN_PIPELINE,
    f"base.data.test_pipeline=[{{type: LoadImageFromFile}}, {RESIZE}, {{type: PackDetInputs, {META}}}]",
)


def start(tmp_path: Path, *more: str, seeds: str = "[0]") -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / "experiments" / "launch.py"), "dataset=coco", "cluster=local"]
    command += [f"dataset.root={tmp_path / 'coco'}", f"runs={tmp_path / 'runs'}", f"seeds={seeds}", *SMALL, *more]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def statuses(tmp_path: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in (tmp_path / "runs" / "coco").glob("*/seed0-*/status.json")]


def interrupt(launcher: subprocess.Popen[str], tmp_path: Path, count: int) -> None:
    """Send Ctrl-C when all runs have trained an iteration; those that are faster are suspended until then."""
    held: set[int] = set()

    def all_held() -> bool:
        for status in statuses(tmp_path):
            process = status["attempts"][-1]["pid"]
            if status["iteration"] and process not in held:
                held.add(process)
                os.kill(process, signal.SIGSTOP)
        assert launcher.poll() is None, launcher.communicate()[0]
        return len(held) == count

    wait_until(all_held)
    launcher.send_signal(signal.SIGINT)
    for process in held:
        os.kill(process, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "arms"),
    [("ablation", "baseline,dla,dsl,both"), ("controls", "baseline,faster_rcnn,t_60"), ("mask", "r50,r50_dynamic")],
)
def test_r50_runs_on_coco_are_stopped_resumed_evaluated_and_reported(tmp_path: Path, grid: str, arms: str) -> None:
    write_coco_2017(tmp_path / "coco")
    count = len(arms.split(","))
    settings = [f"grid={grid}", f"arms=[{arms}]", f"cluster.slots={count}", "cluster.threads=1"]
    if grid == "mask":
        settings.append(TRAIN_PIPELINE.replace("with_bbox: true", "with_bbox: true, with_mask: true"))
    first = start(tmp_path, *settings)
    interrupt(first, tmp_path, count)
    assert first.wait(300) == 130
    second = start(tmp_path, *settings)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output
    assert [status["state"] for status in statuses(tmp_path)] == ["done"] * count
    assert [len(status["attempts"]) for status in statuses(tmp_path)] == [2] * count
    report = [sys.executable, str(PROJECT / "analysis" / "report.py")]
    page = tmp_path / "REPORT.md"
    assert subprocess.run([*report, f"runs={tmp_path / 'runs'}", f"out={page}"]).returncode == 0
    headline = next(line for line in page.read_text().splitlines() if line.startswith("| 38.9 AP"))
    assert "**NOT RUN**" in headline and ("NOT COMPARABLE" in headline) == (grid == "ablation")
    assert "measured" not in headline


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grid", "arms", "seeds"),
    [
        ("dynamics", "baseline,both,open_loop,reversed,author", "[0,1]"),
        ("dynamics", "both,end_point,shuffled,static_joint,all_reduce", "[0]"),
        ("dsl", "baseline,weight_1_3,t_62_beta_1_6", "[0]"),
    ],
)
def test_the_grids_of_open_questions_run_on_coco(tmp_path: Path, grid: str, arms: str, seeds: str) -> None:
    """Replays wait for the runs whose T and beta they take; no problem is found in the records."""
    write_coco_2017(tmp_path / "coco")
    settings = [f"grid={grid}", f"arms=[{arms}]", "cluster.slots=2", "cluster.threads=1", "base.train.max_iters=4"]
    if grid == "dynamics":
        settings.append("base.model.train_cfg.rcnn.dynamic_rcnn.update_iter_interval=2")
    if "all_reduce" in arms:  # needs several groups
        settings += ["base.train.groups=2", "base.train.images_per_group=1"]
    launcher = start(tmp_path, *settings, seeds=seeds)
    output, _ = launcher.communicate(timeout=900)
    assert launcher.returncode == 0, output
    found = [
        path for path in (tmp_path / "runs/coco").glob("*/seed*-*/status.json") if read_json(path)["state"] == "done"
    ]
    assert len(found) == len(arms.split(",")) * len(seeds.split(","))
    page = tmp_path / "REPORT.md"
    report = [sys.executable, str(PROJECT / "analysis/report.py"), f"runs={tmp_path / 'runs'}", f"out={page}"]
    assert subprocess.run(report).returncode == 0
    problems = page.read_text().split("## Problems found while reading")[1].split("##")[0]
    assert "replays" not in problems and "did not train" not in problems

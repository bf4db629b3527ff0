"""Short runs of Tables 1 and 7 on shapes: killed, resumed bit for bit, evaluated again, reported."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import report
from dynamic_rcnn.metrics.detections import read_detections
from dynamic_rcnn.run.files import read_json
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from tests.analysis.synthetic import read_report
from tests.dynamic_rcnn.runs import assert_same_run, prepare, train

PROJECT = Path(__file__).resolve().parents[3]
SEGM = ["segm_AP", "segm_AP50", "segm_AP75"]

pytestmark = pytest.mark.slow


def shortened(grid: str, arm: str, data: Path) -> RunSpec:
    """The arm's run with 8 iterations of 2 images."""
    settings = [f"grid={grid}", "dataset=shapes_tiny", f"dataset.root={data}", "cluster=local"]
    spec = build_grid(resolve([*settings, "dataset.recipe.val_images=4"])[0]).specs[arm]
    config = copy.deepcopy(spec.config)
    config["train"] |= {"max_iters": 8, "groups": 1, "images_per_group": 2, "log_interval": 1, "checkpoint_interval": 3}
    config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]["update_iter_interval"] = 3
    config["param_scheduler"] = config["param_scheduler"][:1]
    config["model"]["test_cfg"]["rcnn"]["score_thr"] = 0.0  # so little training gives no sure detections
    return replace(spec, config=config)


@pytest.mark.parametrize(("grid", "arm"), [("backbones", "r101_dcn_3x_mst_dynamic"), ("mask", "r101_dynamic")])
def test_a_run_is_killed_resumed_and_evaluated_again(tmp_path: Path, grid: str, arm: str) -> None:
    spec = shortened(grid, arm, tmp_path / "data")
    whole, killed = (prepare(tmp_path / name, spec) for name in ("whole", "killed"))
    done = train(whole)
    assert done.returncode == 0, done.stderr
    assert train(killed, "iteration", 5).returncode == -signal.SIGKILL
    assert train(killed).returncode == 0
    assert read_json(killed / "status.json")["attempts"][-1]["from_iteration"] == 3
    assert_same_run(killed, whole)

    rows = read_detections(whole / "detections.json.gz")
    metrics = read_json(whole / "metrics.json")["metrics"]
    assert rows and all(("segmentation" in row) == spec.has_masks for row in rows)
    assert [name for name in metrics if name.startswith("segm")] == (SEGM if spec.has_masks else [])
    first = json.loads((whole / "train.jsonl").read_text().splitlines()[0])
    assert ("loss_mask" in first) == spec.has_masks
    command = [sys.executable, "-m", "dynamic_rcnn.evaluate", str(whole)]
    again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("metrics.json has the same values\n")
    assert ("segm_AP " in again.stdout) == spec.has_masks


def test_the_mask_grid_is_launched_and_reported(tmp_path: Path) -> None:
    """`launch.py grid=mask` with the real trainer, two arms of 6 iterations, and the report."""
    command = [sys.executable, str(PROJECT / "experiments/launch.py"), "grid=mask", "dataset=shapes_tiny"]
    command += ["cluster=local", "cluster.slots=2", "cluster.threads=1", "seeds=[0]", "arms=[r50,r50_dynamic]"]
    command += [f"dataset.root={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}", "dataset.recipe.val_images=4"]
    command += [
        "base.train.max_iters=6",
        "base.train.groups=1",
        "base.train.images_per_group=2",
        "base.train.val_interval=3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "runs").glob("*/r50_dynamic/seed0-*")
    assert set(SEGM) <= set(json.loads((run / "evaluations.jsonl").read_text().splitlines()[0]))
    assert report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'REPORT.md'}"]) == 0
    text = read_report(tmp_path / "REPORT.md").replace("\\_", "_")
    assert "### Masks" in text and "| arm | n | segm_AP | segm_AP50 | segm_AP75 |" in text
    assert "segm_AP" in text[text.index("### The paper's numbers: COCO, NOT comparable with shapes") :]

"""Detectors from mmdet's configs: five families train and are evaluated; a Cascade is killed, resumed and reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from tests.analysis.synthetic import panels_of_page, read_report
from tests.dynamic_rcnn.runs import assert_same_run, prepare, train
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.foreign_configs import FAMILIES, SMALL, write_config

PROJECT = Path(__file__).resolve().parents[3]
STAGES = ("T", "T_stage2", "T_stage3", "beta", "beta_stage2", "beta_stage3")
HEADS = {"cascade": "DynamicCascadeRoIHead", "double_head": "DynamicDoubleHeadRoIHead"}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "coco"
    write_coco_2017(root)
    return root


def specs(config: Path, coco: Path, *more: str) -> dict[str, RunSpec]:
    """The runs of `ablation` with seed 0, by arm."""
    given = ["grid=ablation", f"base={config}", "dataset=coco", f"dataset.root={coco}", "cluster=local", *SMALL, *more]
    return build_grid(resolve(given)[0]).specs


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_is_evaluated(family: str, coco: Path, tmp_path: Path) -> None:
    """Three iterations of two groups, with the config gone: T and beta move, and metrics come out."""
    config = write_config(tmp_path, family)
    libra = family == "libra"  # its loss has no beta
    arm = "dla" if libra else "both"
    spec = specs(config, coco, f"arms=[{arm}]")[arm]
    config.unlink()
    assert spec.config["model"]["roi_head"]["type"] == f"dynamic_rcnn.{HEADS.get(family, 'DynamicRoIHead')}"
    assert spec.config["train"]["groups"] == 2 and spec.has_masks == (family in ("mask", "swin"))
    run_dir = prepare(tmp_path / "runs", spec)
    done = train(run_dir)
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(run_dir / "train.jsonl")
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    moved = [name for name in ("T", "beta") if rows[0][name] != rows[-1][name]]
    assert moved == (["T"] if libra else ["T", "beta"]) or family == "cascade"  # whose lower bound of T is 0.5
    metrics: dict[str, Any] = read_json(run_dir / "metrics.json")["metrics"]
    assert "AP" in metrics and ("segm_AP" in metrics) == spec.has_masks


@pytest.mark.slow
def test_a_killed_cascade_with_both_equals_one_that_was_not(coco: Path, tmp_path: Path) -> None:
    """Killed in the middle of the windows of two groups and three stages, and in the evaluation."""
    method = "base.model.train_cfg.rcnn.dynamic_rcnn"
    settings = ("base.train.max_iters=9", "base.train.checkpoint_interval=2", f"{method}.update_iter_interval=3")
    spec = specs(write_config(tmp_path, "cascade"), coco, *settings, f"{method}.initial_iou=0.1")["both"]
    reference, killed = (prepare(tmp_path / name, spec) for name in ("reference", "killed"))
    assert train(reference).returncode == 0
    for moment, count in (("iteration", 5), ("evaluation", 0)):
        assert train(killed, moment, count).returncode == -signal.SIGKILL
    assert train(killed).returncode == 0
    assert [each["from_iteration"] for each in read_json(killed / "status.json")["attempts"]] == [0, 4, 9]
    assert_same_run(killed, reference)
    rows = read_jsonl(reference / "train.jsonl")
    assert all(len({row[name] for row in rows}) == 4 for name in STAGES[:3])  # else it says nothing about T
    assert len({rows[-1][name] for name in STAGES[3:]}) == 3


@pytest.mark.slow
def test_a_cascade_is_launched_and_reported_by_stage(coco: Path, tmp_path: Path) -> None:
    """With the real commands, on data in COCO's layout: status and report have T and beta of each stage."""
    config, runs = write_config(tmp_path, "cascade"), tmp_path / "runs"
    given = ["grid=ablation", f"base={config}", "dataset=coco", f"dataset.root={coco}", "cluster=local", *SMALL]
    given += ["seeds=[0]", "arms=[baseline,both]", f"runs={runs}", "cluster.threads=1"]

    def run(*command: str) -> str:
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "300"}
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=PROJECT, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "schedule are those of cascade.py (mmdet 3.3.0); data set, evaluation, hooks" in run(
        "experiments/launch.py", *given
    )
    status = run("experiments/launch.py", *given, "action=status")
    assert "0.500 / 0.600 / 0.700" in status and "1.000 / 1.000 / 1.000" in status
    run("analysis/report.py", f"runs={runs}", f"out={tmp_path / 'REPORT.md'}")
    titles = [panel["title"] for panel in panels_of_page((tmp_path / "report.html").read_text())]
    assert set(STAGES) <= set(titles), titles
    assert f", base `{config}`, changed: `base." in read_report(tmp_path / "REPORT.md")

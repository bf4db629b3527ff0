"""Detectors from mmdet's configs, of five families: trained, evaluated, and the real code of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from tests.dynamic_rcnn.runs import prepare, train
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.foreign_configs import FAMILIES, SMALL, write_config

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
    spec = specs(config, coco, *(["arms=[dla]", "~grid.arms.dsl", "~grid.arms.both"] if libra else []))[
        "dla" if libra else "both"
    ]
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

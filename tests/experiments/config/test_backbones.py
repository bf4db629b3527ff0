"""grid=backbones: its base, what its arms share, and its cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE, TRAIN, differences
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.planning import cost
from experiments.planning.manifest import manifest_path, write_manifest
from experiments.planning.run_state import disk_plan
from tests.experiments.coco_layout import write_coco_2017

SWITCHES = [f"config.model.train_cfg.rcnn.dynamic_rcnn.{name}" for name in ("label_assignment", "smooth_l1")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    write_coco_2017(folder)
    return folder


def grid(*overrides: str) -> Grid:
    return build_grid(resolve(["grid=backbones", "cluster=local", *overrides])[0])


def on_coco(root: Path, *overrides: str) -> Grid:
    return grid("dataset=coco", f"dataset.root={root}", "cluster.processes=8", *overrides)


@pytest.mark.parametrize(
    ("overrides", "base"),
    [
        (["dataset=shapes"], "shapes_r18_fpn_scratch"),
        (["dataset=shapes_tiny", "base.train.max_iters=20"], "shapes_r18_fpn_scratch"),
        (["dataset=shapes", "base.model.backbone.stage_with_dcn=[true,true,true,true]"], "shapes_r18_fpn_scratch"),
        (["dataset=shapes", "base=shapes_r18_fpn", "arms=[r50_1x]"], "shapes_r18_fpn"),
    ],
)
def test_the_grid_replaces_the_base_of_the_data_set(overrides: list[str], base: str) -> None:
    if base == "shapes_r18_fpn":  # a base for which the arms have no set_for
        with pytest.raises(UserError, match="give one of the two, and null for the other"):
            grid(*overrides)
        return
    found = grid(*overrides)
    assert found.base == base and found.pretrain is None
    assert found.changed == [item.split("=")[0] for item in overrides if item.startswith("base.")]


@pytest.mark.parametrize("coco", [False, True])
def test_a_dynamic_arm_is_its_control_with_both_components(root: Path, coco: bool) -> None:
    found = on_coco(root) if coco else grid("dataset=shapes")
    trained = [arm for arm in found.arms if found.specs[arm].task == TRAIN]
    pairs = {arm: found.baselines.get(arm, found.baseline) for arm in trained if arm.endswith("_dynamic")}
    assert len(pairs) == 7 and set(trained) == {*pairs, *pairs.values()}
    for arm, control in pairs.items():
        assert arm == f"{control}_dynamic"
        fields = [field for field, _, _ in differences(found.specs[control], found.specs[arm])]
        assert fields == SWITCHES


@pytest.mark.parametrize("coco", [False, True])
def test_multi_scale_arms_evaluate_the_weights_of_another_arm(root: Path, coco: bool) -> None:
    """What a run with these options would be, if it were trained, differs in the options alone."""
    found = on_coco(root) if coco else grid("dataset=shapes")
    names = [arm for arm in found.arms if arm.endswith("_multi_scale")]
    assert len(names) == 4
    for arm in names:
        source = found.specs[arm.removesuffix("_multi_scale")]
        spec = found.specs[arm]
        assert (spec.task, spec.init) == (EVALUATE, {"run": source.id, "setting": source.setting})
        changed = {field for field, _, _ in differences(source, replace(spec, task=TRAIN, init=source.init))}
        nms = {f"config.model.test_cfg.rcnn.nms.{name}" for name in ("type", "method", "min_score")}
        assert changed == {"config.data.test_pipeline", *(nms if "dcnv1" in arm else ())}
        assert found.baselines.get(arm, "") == (arm.replace("_dynamic", "") if "_dynamic" in arm else "")
    steps = found.specs[names[0]].config["data"]["test_pipeline"][1]["transforms"]
    if coco:
        assert [step["scale"] for step in steps[0]] == [[2000, side] for side in range(800, 1601, 200)]


def test_deformable_convolutions_differ_in_their_version_alone(root: Path) -> None:
    specs = on_coco(root).specs
    found = differences(specs["r101_dcn_3x_mst"], specs["r101_dcnv1_3x_mst"])
    assert found == [("config.model.backbone.dcn.type", "DCNv2", "DCN")]


def test_on_coco_the_first_arms_are_those_of_the_ablation(root: Path) -> None:
    found = on_coco(root)
    settings = ["grid=ablation", "cluster=local", "dataset=coco", f"dataset.root={root}", "cluster.processes=8"]
    ablation = build_grid(resolve(settings)[0]).specs
    assert found.specs["r50_1x"].id == ablation["baseline"].id
    assert found.specs["r50_1x_dynamic"].id == ablation["both"].id
    assert found.changed == []


def test_the_manifest_records_the_baseline_of_each_arm(tmp_path: Path) -> None:
    found = grid("dataset=shapes", "seeds=[0]")
    write_manifest(found, tmp_path, {spec.id: spec.directory(tmp_path) for spec in found.runs})
    written = json.loads(manifest_path(found, tmp_path).read_text())
    assert written["baselines"]["r101_3x_mst_dynamic"] == "r101_3x_mst" and len(written["baselines"]) == 8
    assert written["paper"]["test_dev"]["r101_2x"]["APl"] == 52.1


def test_the_cost_covers_the_arms_whose_step_time_is_known(root: Path, tmp_path: Path, capsys: Any) -> None:
    """R-50: 12 and 24 epochs of 7,330 iterations at 0.35 s, two arms of each."""
    found = on_coco(root, "seeds=[0]")
    estimate = cost.estimate(found, tmp_path, disk_plan(found, tmp_path))
    assert estimate.to_launch is None and estimate.known == pytest.approx(2 * 36 * 7330 * 0.35 / 3600)
    trained = [arm for arm in found.arms if found.specs[arm].task == TRAIN]
    assert [arm for arm in trained if arm not in estimate.unknown] == [
        *("r50_1x", "r50_1x_dynamic", "r50_2x", "r50_2x_dynamic"),
    ]
    settings = ["grid=backbones", "dataset=coco", f"dataset.root={root}", "cluster=slurm", "seeds=[0]"]
    assert launch.main([*settings, f"runs={tmp_path}", "action=plan"]) == 0
    out = capsys.readouterr().out
    assert "18 runs (18 arms x 1 seeds); 4 of the runs only evaluate weights of others: 18 new" in out
    assert (
        "cost: 410.48 GPU-hours for the runs to launch, at 0.350 s per iteration (declared in the grid for 8 processes)"
        in out
    )
    assert (
        "verdicts with 1 seed per arm (docs/operating-characteristics.md): a printed AP is decided with a chance of "
        "87.1% if it is true, 99.9% if 1.0 AP lower; a printed difference of two arms, of 41.3% if it is true, "
        "86.2% if 1.0 AP lower" in out
    )
    assert "not included: r101_1x, r101_1x_dynamic, r101_2x, " in out
    assert launch.main([*settings, f"runs={tmp_path}", "action=plan", "cluster.max_gpu_hours=9999"]) == 2
    assert "the seconds per iteration on coco are unknown until a run has measured them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grid.arms.r50_2x_dynamic.baseline=r50", "grid.arms.r50_2x_dynamic.baseline=r50: unknown arm; valid: r50_1x"),
        ("grid.arms.r50_2x_dynamic.baseline=r101_2x_dynamic", "has a baseline itself; name an arm that has none"),
        (
            "grid.cost.coco.r50_1x=-1",
            "must be a positive number of seconds per iteration, or map arms to such numbers",
        ),
        (
            "++grid.base_for.faster_rcnn_r50_fpn_1x=x",
            "grid.base_for.faster_rcnn_r50_fpn_1x=x: unknown base; valid: faster",
        ),
        ("++grid.paper.test_dev.r50_1x={AP: high}", "grid.paper.test_dev.r50_1x="),
        ("++grid.paper.base=3", "grid.paper.base=3: must be text"),
    ],
)
def test_bad_input_is_reported(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        grid("dataset=shapes", override)
    assert message in str(caught.value) and "\n" not in str(caught.value)

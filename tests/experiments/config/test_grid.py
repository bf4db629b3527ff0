"""Grids: every grid file composes, its arms are small diffs on one base, and its runs are those that it describes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import RunSpec, differences
from experiments.config import choices
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.conf_files import CONF
from experiments.config.grid import Grid
from tests.dynamic_rcnn.data.coco_fixture import write_coco

ALL_GRIDS = sorted(path.stem for path in (CONF / "grid").glob("*.yaml"))
GRIDS = [name for name in ALL_GRIDS if name not in ("released", "test_time")]  # need weights: see test_weights.py
EIGHT = "cluster.processes=8"  # as published
SWITCHES = "config.model.train_cfg.rcnn.dynamic_rcnn."


@pytest.fixture(autouse=True)
def without_coco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COCO_ROOT", str(tmp_path))


def grid(*overrides: str) -> Grid:
    return build_grid(resolve(overrides)[0])


def write_coco_2017(root: Path) -> Path:
    """A tiny data set in COCO 2017's layout."""
    layout = write_coco(root)
    for given, name in (
        ("annotations/instances_train2017.json", "train_ann"),
        ("annotations/instances_val2017.json", "val_ann"),
        ("train2017", "train_img"),
        ("val2017", "val_img"),
    ):
        (root / given).parent.mkdir(exist_ok=True)
        (root / layout[name]).rename(root / given)
    return root


def nulls(node: Any, path: str = "") -> list[str]:
    """Where a class count was left open."""
    if isinstance(node, dict):
        own = [f"{path}.{key}" for key, value in node.items() if key == "num_classes" and value is None]
        return own + [item for key, value in node.items() for item in nulls(value, f"{path}.{key}")]
    return [item for value in node for item in nulls(value, path)] if isinstance(node, list) else []


def test_all_grids_are_tested() -> None:
    assert {"ablation", "smoke"} <= set(GRIDS)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_composes_and_its_arms_are_small_diffs(name: str) -> None:
    found = grid(f"grid={name}")
    assert found.name == name
    assert found.baseline in found.arms
    assert len(found.runs) == len(found.arms) * len(found.seeds)
    assert len({run.id for run in found.all_runs}) == len(found.all_runs)
    first = {run.arm: run for run in found.runs if run.seed == found.seeds[0]}
    start = first[found.baseline].init
    first = {arm: replace(run, task=found.task, init=start) for arm, run in first.items()}  # weights_of as if trained
    for run in first.values():
        fields = [field for field, _, _ in differences(first[found.baseline], run)]
        own = differences(first[found.baselines.get(run.arm, found.baseline)], run)
        assert len(own) <= 8 or run.arm in found.baselines.values()  # a control may have another backbone
        assert all(field.startswith(("config.", "replay.")) for field in fields)
        assert (len(fields) == 0) == (run.arm == found.baseline)
    assert not any(nulls(run.config) for run in found.all_runs)


@pytest.mark.parametrize("name", ALL_GRIDS)
def test_the_header_of_a_grid_contains_its_command(name: str) -> None:
    text = (CONF / "grid" / f"{name}.yaml").read_text()
    assert f"python experiments/launch.py grid={name}" in text.split("\ngrid:")[0]


def test_the_ablation_changes_only_the_two_switches() -> None:
    runs = {run.arm: run for run in grid("grid=ablation").runs if run.seed == 0}
    dla, dsl = (f"{SWITCHES}label_assignment", False, True), (f"{SWITCHES}smooth_l1", False, True)
    assert differences(runs["baseline"], runs["dla"]) == [dla]
    assert differences(runs["baseline"], runs["dsl"]) == [dsl]
    assert differences(runs["baseline"], runs["both"]) == [dla, dsl]


@pytest.mark.parametrize(
    ("name", "arm", "other"), [("iou_topk", "ki_75", "dla"), ("interval", "c_100", "dla"), ("beta", "kb_10", "dsl")]
)
def test_the_default_row_of_a_table_is_an_arm_of_the_ablation_and_runs_once(name: str, arm: str, other: str) -> None:
    """On both bases: the other rows change one constant, in the scale of the base."""
    for base in ("shapes_r18_fpn", "faster_rcnn_r50_fpn_1x"):
        table, ablation = (grid(f"grid={each}", f"base={base}").specs for each in (name, "ablation"))
        assert table[arm].id == ablation[other].id and table["baseline"].id == ablation["baseline"].id
        for row, spec in table.items():
            if row not in (arm, "baseline") and not row.startswith("beta_"):
                assert len(differences(table[arm], spec)) == 1, row


def test_the_controls_change_what_their_names_say() -> None:
    runs = grid("grid=controls").specs
    found = {arm: {field for field, _, _ in differences(runs["baseline"], run)} for arm, run in runs.items()}
    assigner, loss = "config.model.train_cfg.rcnn.assigner.", "config.model.roi_head.bbox_head.loss_bbox."
    thresholds = {f"{assigner}{name}" for name in ("pos_iou_thr", "neg_iou_thr", "min_pos_iou")}
    nms = {f"config.model.{part}.nms.iou_threshold" for part in ("train_cfg.rpn_proposal", "test_cfg.rpn")}
    assert all(found[f"t_{each}"] == thresholds for each in (55, 60, 65, 70))
    assert all(found[f"beta_1_{each}"] == {f"{loss}beta"} for each in (2, 4, 6, 9))
    assert found["nms_70"] == nms and found["faster_rcnn"] == nms | found["l1"]
    assert found["l1"] == {f"{loss}type", f"{loss}beta"}


def test_a_replay_uses_the_run_of_its_seed_and_all_seeds_have_one_setting() -> None:
    found = grid("grid=dynamics", "arms=[end_point,both]", "seeds=[3,7]")
    runs = {run.name: run for run in found.runs}
    assert [field for field, _, _ in differences(found.specs["baseline"], found.specs["end_point"])] == [
        "replay.run",
        "replay.setting",
    ]
    for seed in (3, 7):
        dynamic, replay = runs[f"both/seed{seed}"], runs[f"end_point/seed{seed}"]
        assert replay.replay == {"run": dynamic.id, "setting": dynamic.setting}
        assert found.pretrain is not None and replay.needs == [found.pretrain.with_seed(seed).id, dynamic.id]
    assert runs["end_point/seed3"].setting == runs["end_point/seed7"].setting != runs["both/seed3"].setting
    other = grid("grid=dynamics", "arms=[end_point,both]", "base.model.train_cfg.rcnn.dynamic_rcnn.iou_topk=31")
    assert other.specs["end_point"].setting != runs["end_point/seed3"].setting


def test_an_arm_with_the_weights_of_another_uses_the_run_of_its_seed() -> None:
    soft = "++grid.arms.soft={title: Soft-NMS, weights_of: both, set: {model.test_cfg.rcnn.max_per_img: 50}}"
    found = grid("grid=ablation", "arms=[soft,both]", "seeds=[3,7]", soft)
    runs = {run.name: run for run in found.runs}
    for seed in (3, 7):
        trained, evaluated = runs[f"both/seed{seed}"], runs[f"soft/seed{seed}"]
        assert evaluated.init == {"run": trained.id, "setting": trained.setting} and evaluated.task == "evaluate"
        assert evaluated.needs == [trained.id]
        assert evaluated.config["model"]["test_cfg"]["rcnn"]["max_per_img"] == 50
        method = evaluated.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
        assert method["label_assignment"] and method["smooth_l1"]
    assert runs["soft/seed3"].setting == runs["soft/seed7"].setting != runs["both/seed3"].setting
    assert runs["soft/seed3"].id != runs["soft/seed7"].id
    longer = grid("grid=ablation", "arms=[soft,both]", "seeds=[3]", soft, "base.train.max_iters=700")
    assert longer.runs[1].id != runs["soft/seed3"].id  # because the training is another one


def test_runs_of_one_arm_differ_only_in_the_seed_and_the_pretraining_of_this_seed() -> None:
    found = grid("grid=ablation", "arms=[both,dla]", "seeds=[3,7]")
    assert [run.name for run in found.pretrainings] == ["pretrain/seed3", "pretrain/seed7"]
    assert [run.name for run in found.runs] == ["dla/seed3", "both/seed3", "dla/seed7", "both/seed7"]
    first, _, second, _ = found.runs
    three, seven = (run.id for run in found.pretrainings)
    assert differences(first, second) == [("init.run", three, seven), ("seed", 3, 7)]
    assert first.setting == second.setting and [run.needs for run in found.runs] == [[three], [three], [seven], [seven]]
    assert differences(*found.pretrainings) == [("seed", 3, 7)]


def test_the_pretraining_depends_on_its_own_settings_alone() -> None:
    def pretraining(*arguments: str) -> str:
        found = grid("grid=ablation", *arguments).pretrain
        assert found is not None
        return found.id

    same = ["base.model.roi_head.bbox_head.fc_out_channels=99", "base.train.max_iters=9", "dataset.recipe.seed=3"]
    assert {pretraining(each) for each in same} == {pretraining()}
    others = ["base.pretrain.recipe.seed=5", "base.model.backbone.depth=34"]
    assert len({pretraining(), *map(pretraining, others)}) == 3


def test_a_replay_of_another_seed_uses_the_seed_before() -> None:
    found = grid("grid=dynamics", "arms=[open_loop,both]", "seeds=[0,1,2]")
    runs = {run.name: run for run in found.runs}
    for seed, other in ((0, 1), (1, 0), (2, 1)):
        source = runs[f"both/seed{other}"]
        assert runs[f"open_loop/seed{seed}"].replay == {
            **{"run": source.id, "setting": source.setting, "of_other_seed": True, "values": "all"}
        }
    assert len({runs[f"open_loop/seed{seed}"].setting for seed in (0, 1, 2)}) == 1


def test_runs_made_for_several_seeds_have_the_same_ids_as_runs_made_one_by_one() -> None:
    for run in grid("grid=smoke", "seeds=[0,1,2]").runs:
        assert run.id == RunSpec(run.arm, run.seed, run.dataset, run.config, run.init).id
        assert run.setting == RunSpec(run.arm, 7, run.dataset, run.config, run.init).setting


def test_choosing_seeds_and_arms_keeps_the_setting_and_an_override_changes_it() -> None:
    first = grid("grid=ablation")
    assert grid("grid=ablation", "seeds=[9]", "arms=[dsl]").setting == first.setting
    other = grid("grid=ablation", "base.train.max_iters=599")
    assert other.setting != first.setting
    assert not {run.id for run in other.runs} & {run.id for run in first.runs}


@pytest.mark.parametrize(
    "neutral",
    [
        *("base.train.workers=2", "base.train.prefetch=3", "base.train.log_interval=1", "cluster.slots=7"),
        *("dataset.root=/x", "dataset.stage=/z"),
    ],
)
def test_neutral_settings_do_not_change_run_ids(neutral: str) -> None:
    assert [run.id for run in grid("grid=smoke", neutral).all_runs] == [run.id for run in grid("grid=smoke").all_runs]


def test_an_arm_that_replaces_a_nested_value_leaves_its_neighbours() -> None:
    found = grid("grid=smoke", "+grid.arms.x={title: x, set: {model.train_cfg.rcnn.assigner.pos_iou_thr: 0.6}}")
    runs = {run.arm: run for run in found.runs}
    name = "config.model.train_cfg.rcnn.assigner.pos_iou_thr"
    assert differences(runs["baseline"], runs["x"]) == [(name, 0.5, 0.6)]


def test_choices_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(["grid=ablation", "cluster=local"])[1] == [
        "dataset=shapes: no COCO 2017 in dataset.root, $COCO_ROOT or data/coco; results are on generated shapes",
    ]
    assert resolve(["dataset=shapes", "cluster=local"])[1] == []
    monkeypatch.setenv("COCO_ROOT", str(write_coco_2017(tmp_path / "coco")))
    config, chosen = resolve(["grid=ablation"])
    assert chosen[0] == f"dataset=coco: COCO 2017 is in {tmp_path / 'coco'}"
    assert config.base["train"]["max_epochs"] == 12 and config.settings.dataset.name == "coco"


def root_of(*overrides: str) -> str:
    """The folder from which the runs of a grid read their data."""
    return str(grid("grid=ablation", *overrides).runs[0].dataset["root"])


@pytest.mark.parametrize("dataset", ["dataset=auto", "dataset=coco"])
def test_coco_is_read_where_it_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    good, other = write_coco_2017(tmp_path / "good"), write_coco_2017(tmp_path / "other")
    monkeypatch.setattr(choices, "PROJECT", tmp_path / "project")
    monkeypatch.setenv("COCO_ROOT", str(good))
    assert root_of(dataset) == str(good)
    assert root_of(dataset, f"dataset.root={other}") == str(other)
    with pytest.raises(UserError, match=r"dataset\.root=/mine: does not contain COCO 2017"):
        grid("grid=ablation", dataset, "dataset.root=/mine")
    own = write_coco_2017(tmp_path / "project" / "data" / "coco")
    monkeypatch.setenv("COCO_ROOT", str(tmp_path / "wrong"))
    assert root_of(dataset) == str(own)
    assert resolve(["grid=ablation", dataset])[1][0].endswith(
        f"COCO 2017 is {'in ' + str(own) if 'auto' in dataset else 'there'}"
    )


@pytest.mark.parametrize(
    ("overrides", "base", "changed"),
    [
        (["dataset=shapes"], "shapes_r18_fpn", []),
        (["dataset=shapes", "base.train.workers=3", "dataset.root=/x", "dataset.name=y"], "shapes_r18_fpn", []),
        (["dataset=shapes", "base.train.max_iters=9"], "shapes_r18_fpn", ["base.train.max_iters"]),
        (["dataset=shapes", "base.pretrain=null"], "shapes_r18_fpn", ["base.pretrain"]),
        (["dataset=shapes", "dataset.recipe.seed=4"], "shapes_r18_fpn", ["dataset.recipe.seed"]),
        (["dataset=shapes", "grid.arms.dla.set={}"], "shapes_r18_fpn", []),
        (["dataset=shapes", "++grid.arms.dla.set={train.groups: 2}"], "shapes_r18_fpn", ["grid.arms.dla.set"]),
        (["dataset=shapes", "grid.baseline=dla", "grid.factorial=null"], "shapes_r18_fpn", ["grid.baseline"]),
        (["dataset=shapes", "grid.name=mine"], "shapes_r18_fpn", ["grid.name"]),
        (["dataset=coco", EIGHT], "faster_rcnn_r50_fpn_1x", []),
        (["dataset=coco"], "faster_rcnn_r50_fpn_1x", []),
        (["dataset=auto", EIGHT], "faster_rcnn_r50_fpn_1x", []),
        (["dataset=coco", EIGHT, "base.train.max_epochs=1"], "faster_rcnn_r50_fpn_1x", ["base.train.max_epochs"]),
        (["dataset=coco", EIGHT, "dataset.val_img=train2017"], "faster_rcnn_r50_fpn_1x", ["dataset.val_img"]),
        (["base=shapes_r18_fpn", "dataset=coco"], "shapes_r18_fpn", []),
    ],
)
def test_fields_that_differ_from_the_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], base: str, changed: list[str]
) -> None:
    monkeypatch.setenv("COCO_ROOT", str(write_coco_2017(tmp_path / "coco")))
    found = grid("grid=ablation", "cluster=local", *overrides)
    assert found.base == base
    if changed == ["base.pretrain"]:
        assert found.changed and all(field.startswith("base.pretrain") for field in found.changed)
    else:
        assert found.changed == changed

"""The manifest lists the runs of a launch, and those of earlier launches whose arms have not changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.files import METRICS, write_json_atomic
from dynamic_rcnn.run.manifest import read_manifest
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.planning.manifest import manifest_path, write_manifest

OTHER_DLA = "++grid.arms.dla.set={model.train_cfg.rcnn.assigner.pos_iou_thr: 0.6}"
TWIN = "+grid.arms.twin={title: as the baseline, set: {}}"


def ask(runs: Path, *overrides: str) -> dict[str, Any]:
    """The manifest after a launch of the smoke grid."""
    found: Grid = build_grid(resolve(["grid=smoke", "base.pretrain=null", *overrides])[0])
    write_manifest(found, runs, {spec.id: spec.directory(runs) for spec in found.runs})
    return dict(json.loads(manifest_path(found, runs).read_text()))


def seeds(manifest: dict[str, Any]) -> dict[str, list[int]]:
    return {arm: [run["seed"] for run in manifest["runs"] if run["arm"] == arm] for arm in manifest["arms"]}


@pytest.mark.parametrize("arms", ["arms=null", "arms=[dsl]"])
def test_runs_of_a_changed_arm_are_replaced(tmp_path: Path, arms: str) -> None:
    ask(tmp_path, "seeds=[0,1,2]")
    now = ask(tmp_path, "seeds=[0]", OTHER_DLA, arms)
    whole = [0, 1, 2]
    assert seeds(now) == {"baseline": whole, "dla": [0] if "null" in arms else [], "dsl": whole, "both": whole}
    settings = {(run["arm"], run["setting"]) for run in now["runs"]}
    assert len(settings) == len({arm for arm, _ in settings})


def test_each_run_has_the_setting_of_its_arm(tmp_path: Path) -> None:
    manifest = ask(tmp_path, "seeds=[0,1]", TWIN)
    by_arm = {run["arm"]: run["setting"] for run in manifest["runs"]}
    assert by_arm["twin"] == by_arm["baseline"] == manifest["setting"] and len(set(by_arm.values())) == 4
    assert all(run["setting"] == by_arm[run["arm"]] for run in manifest["runs"])


def test_runs_of_a_removed_arm_are_dropped(tmp_path: Path) -> None:
    ask(tmp_path, TWIN)
    now = ask(tmp_path)
    assert "twin" not in {run["arm"] for run in now["runs"]} and len(now["runs"]) == 4


def test_cells_of_an_older_manifest_are_kept(tmp_path: Path) -> None:
    old = ask(tmp_path, "seeds=[0,1]")
    for run in old["runs"]:
        del run["setting"]
    del old["base"], old["changed"]
    (path,) = tmp_path.glob("*/*.grid.json")
    path.write_text(json.dumps(old))
    assert seeds(ask(tmp_path, "seeds=[2]")) == {arm: [0, 1, 2] for arm in old["arms"]}
    path.write_text(json.dumps(old))
    now = ask(tmp_path, "seeds=[2]", OTHER_DLA)
    assert seeds(now)["dla"] == [2] and seeds(now)["dsl"] == [0, 1, 2]


def test_the_report_reads_the_manifest(tmp_path: Path) -> None:
    manifest = ask(tmp_path, "seeds=[0]", "base.train.images_per_group=3")
    (path,) = tmp_path.glob("*/*.grid.json")
    grid = read_manifest(path)
    assert grid.manifest == path.relative_to(tmp_path).as_posix()
    assert grid.base == "shapes_r18_fpn" and "base.train.images_per_group" in (grid.changed or [])
    assert {cell.setting for cell in grid.cells} == {run["setting"] for run in manifest["runs"]}


def test_the_manifest_has_the_comparisons_that_the_grid_declares(tmp_path: Path) -> None:
    factorial = "++grid.factorial={DLA: [dla, both], DSL: [dsl, both]}"
    manifest = ask(tmp_path, factorial, "++grid.equivalence=[{arms: [dla, both], margins: {AP: 0.3, AP90: 1}}]")
    (path,) = tmp_path.glob("*/*.grid.json")
    grid = read_manifest(path)
    assert manifest["factorial"] == grid.factorial == {"DLA": ["dla", "both"], "DSL": ["dsl", "both"]}
    (claim,) = grid.equivalence
    assert claim.model_dump() == {"arms": ["dla", "both"], "margins": {"AP": 0.3, "AP90": 1.0}}
    assert "equivalence" not in ask(tmp_path / "none")


def finish(runs: Path, manifest: dict[str, Any], seed: int) -> None:
    for run in manifest["runs"]:
        if run["seed"] == seed:
            write_json_atomic(runs / run["path"] / METRICS, {})


def test_seeds_that_are_added_after_results_are_a_look(tmp_path: Path) -> None:
    assert "looks" not in ask(tmp_path, "seeds=[0,1]")
    assert "looks" not in ask(tmp_path, "seeds=[0,1,2]")  # no result was known
    finish(tmp_path, ask(tmp_path, "seeds=[0,1,2]"), 0)
    assert "looks" not in ask(tmp_path, "seeds=[0,1,2]")  # nothing is added
    assert "looks" not in ask(tmp_path, "seeds=[0]", TWIN)  # another arm
    now = ask(tmp_path, "seeds=[3]", TWIN)
    assert now["looks"] == [1]
    finish(tmp_path, now, 1)
    assert ask(tmp_path, "seeds=range(5)", TWIN)["looks"] == [1, 2]
    assert ask(tmp_path, "seeds=range(5)", TWIN)["looks"] == [1, 2]
    assert "looks" not in ask(tmp_path, "seeds=range(9)", "base.train.images_per_group=3")  # another setting

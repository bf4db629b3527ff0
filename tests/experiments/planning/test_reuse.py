"""After a correction of the validation annotations, the plan and the launch reuse complete trainings."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.run.files import WEIGHTS, read_json, write_json_atomic
from dynamic_rcnn.run.fingerprint import code_fingerprint
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.launching.common import write_spec
from experiments.planning.run_state import disk_plan
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco

CHOICE = ["grid=ablation", "cluster=local", "dataset=coco_format", "base=shapes_r18_fpn", "arms=[both]", "seeds=[0]"]


def grid_on(root: Path) -> Grid:
    paths = [f"dataset.{key}={value}" for key, value in LAYOUT.items()]
    return build_grid(resolve([*CHOICE, f"dataset.root={root}", *paths])[0])


def test_the_run_is_evaluated_again(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    write_coco(root)
    for run in disk_plan(grid_on(root), runs):
        write_spec(run)
        total = run.spec.config["train"]["max_iters"]
        status = {"schema": 1, "state": "failed", "iteration": total, "max_iterations": total}
        write_json_atomic(run.path / "status.json", status)
        write_json_atomic(run.path / "provenance.json", {"schema": 1, "code": code_fingerprint()})
        (run.path / WEIGHTS).parent.mkdir()
        (run.path / WEIGHTS).write_bytes(b"weights")
    edit_json(root / LAYOUT["val_ann"], lambda content: content["annotations"].pop())

    plan = disk_plan(grid_on(root), runs)
    assert [run.spec.arm for run in plan] == ["pretrain", "both"]
    for run in plan[1:]:  # the pretraining has images of its own
        assert run.training is not None and run.state == "new" and run.iteration == run.iterations
        why = f"the validation annotations changed since {run.training.name}: only the evaluation is repeated"
        assert run.why == why
        write_spec(run)
        assert read_json(run.path / "trained.json")["run"] == run.training.name.split("-")[1]
        assert (run.path / WEIGHTS).read_bytes() == b"weights"

    edit_json(root / LAYOUT["train_ann"], lambda content: content["annotations"].pop())
    assert [run.training for run in disk_plan(grid_on(root), runs)] == [None, None]

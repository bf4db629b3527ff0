"""The remaining cost of a grid and the limits of a profile, against numbers calculated by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import METRICS, PROVENANCE, STATUS, TRAIN_LOG, write_json_atomic
from dynamic_rcnn.run.spec import RunSpec
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.planning import cost
from experiments.planning.manifest import write_manifest
from experiments.planning.run_state import disk_plan
from slurm.site_profile import Profile
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, write_coco

SLURM = ("grid=smoke", "cluster=slurm")
R50 = ("grid=ablation", "base=faster_rcnn_r50_fpn_1x", "dataset=shapes", "base.train.max_epochs=null")


def resolved(*overrides: str) -> tuple[Grid, Profile]:
    config = resolve(overrides)[0]
    assert config.profile is not None
    return build_grid(config), config.profile


def measured(runs: Path, spec: RunSpec, seconds: float, device: str = "NVIDIA", iteration: int = 20) -> None:
    """A run that is done at 20 of 20 iterations, or failed before, with its speed."""
    path = spec.directory(runs)
    spec.write(path)
    attempts = [{"number": 1, "started": 0.0, "ended": 3600.0, "outcome": "done", "log": None}]
    status = {"schema": 1, "state": "failed", "cause": "error", "iteration": iteration, "max_iterations": 20}
    write_json_atomic(path / STATUS, {**status, "attempts": attempts})
    write_json_atomic(path / PROVENANCE, {"schema": 1, "code": "x", "device": device})
    row = {"iteration": iteration, "loss": 1.5, "T": 0.5, "beta": 1.0, "seconds": seconds}
    (path / TRAIN_LOG).write_text(json.dumps(row) + "\n")
    if iteration == 20:
        write_json_atomic(path / METRICS, {"schema": 1, "metrics": {"AP": 0.5, "AP90": 0.1}})


def estimate(runs: Path, *overrides: str) -> cost.Cost:
    grid, profile = resolved(*overrides)
    return cost.estimate(grid, runs, disk_plan(grid, runs), gpus=profile.gpus > 0)


def refuse(grid: Grid, runs: Path, profile: Profile) -> cost.Cost:
    plan = disk_plan(grid, runs)
    found = cost.estimate(grid, runs, plan, gpus=profile.gpus > 0)
    cost.refuse(found, plan, profile)
    return found


def test_the_declared_figure_is_for_the_published_processes(tmp_path: Path) -> None:
    """0.35 s an iteration on 8 GPUs; on 4 GPUs twice as long, and as many GPU-hours."""
    eight_gpus = (*R50, "base.train.max_iters=3600", "grid.cost.shapes=0.35", "cluster=slurm")
    eight = estimate(tmp_path, *eight_gpus)
    assert eight.to_launch == pytest.approx(12 * 3600 * 0.35 / 3600)
    assert eight.sources == "0.350 s per iteration (declared in the grid for 8 processes)"
    four = estimate(tmp_path, *eight_gpus, "cluster.gpus_per_node=4")
    assert four.to_launch is not None and four.to_launch * 4 == pytest.approx(eight.to_launch * 8)
    assert four.sources == "0.700 s per iteration (declared in the grid as 0.35 s for 8 processes)"


def test_measured_step_times_are_those_of_the_same_model_and_processes(tmp_path: Path) -> None:
    grid, _ = resolved(*SLURM, "base.pretrain=null")
    by_arm = {spec.arm: spec for spec in grid.runs}
    measured(tmp_path, by_arm["baseline"], 2.0)
    measured(tmp_path, by_arm["dla"], 4.0, iteration=10)
    write_manifest(grid, tmp_path, {spec.id: spec.directory(tmp_path) for spec in grid.runs})
    found = estimate(tmp_path, *SLURM, "base.pretrain=null")  # 10 of dla, 20 of dsl and both, at the median
    assert found.to_launch == pytest.approx((10 + 20 + 20) * 3.0 / 3600)
    assert found.sources == "3.000 s per iteration (measured over 2 runs)"
    other = estimate(tmp_path, *SLURM, "base.pretrain=null", "cluster.gpus_per_node=2")
    assert other.sources == "0.125 s per iteration (declared in the grid as 0.25 s for 1 process)"
    bigger = estimate(tmp_path, *SLURM, "base.pretrain=null", "base.model.neck.out_channels=128")
    assert bigger.sources.endswith("(declared in the grid)")


def test_step_times_of_other_grids_are_used_unless_they_are_of_a_cpu(tmp_path: Path) -> None:
    grid, _ = resolved(*SLURM, "base.pretrain=null", "base.train.max_iters=40", "grid.name=other")
    measured(tmp_path, grid.runs[0], 2.0)
    measured(tmp_path, grid.runs[1], 8.0, device="cpu")
    write_manifest(grid, tmp_path, {spec.id: spec.directory(tmp_path) for spec in grid.runs})
    found = estimate(tmp_path, *SLURM, "base.pretrain=null")
    assert found.sources == "2.000 s per iteration (measured over 1 run)"
    found = estimate(tmp_path, *SLURM, "base.pretrain=null", "cluster.gpus_per_node=0")
    assert found.sources == "8.000 s per iteration (measured over 1 run)"


def test_epochs_of_coco_are_known_before_the_first_run() -> None:
    """117,266 images with boxes in batches of 16 are 7,330 iterations per epoch."""
    grid, _ = resolved("grid=ablation", "cluster=slurm", "base=faster_rcnn_r50_fpn_1x", "dataset=shapes")
    run = disk_plan(grid, Path("/nowhere"))[0]
    assert cost._iterations(run) is None
    coco = replace(run, spec=replace(run.spec, dataset={**run.spec.dataset, "name": "coco"}))
    assert cost._iterations(coco) == 12 * 7330


def act(runs: Path, capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = launch.main([*arguments, f"runs={runs}", "action=plan"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


LONG = ("base.pretrain=null", "base.train.max_iters=3600", "grid.cost.shapes=1", "cluster.gpus_per_node=2")


def test_the_plan_prints_gpu_hours_and_refuses_above_the_limit(tmp_path: Path, capsys: Any) -> None:
    code, out, err = act(tmp_path, capsys, *SLURM, *LONG)  # 4 runs of 3,600 iterations, half a second on 2 GPUs
    assert (code, err) == (0, "")
    assert (
        "cost: 4.00 GPU-hours for the runs to launch, at 0.500 s per iteration (declared in the grid as 1 s for 1 "
        "process), 1 node x 2 GPUs per run, a time limit of 24.0 hours" in out
    )
    assert act(tmp_path, capsys, *SLURM, *LONG, "cluster.max_gpu_hours=4")[0] == 0
    code, out, err = act(tmp_path, capsys, *SLURM, *LONG, "cluster.max_gpu_hours=3.9")
    assert code == 2 and "cost: 4.00 GPU-hours for" in out
    assert err == (
        "error: cluster.max_gpu_hours=3.9: the remaining runs take 4.0 GPU-hours, at 0.500 s per iteration (declared "
        "in the grid as 1 s for 1 process); choose fewer seeds= or arms=, or give a higher limit\n"
    )


def test_an_unknown_cost_is_refused_if_there_is_a_limit(tmp_path: Path, capsys: Any) -> None:
    assert act(tmp_path, capsys, *SLURM, "grid.cost=null")[0] == 0
    code, out, err = act(tmp_path, capsys, *SLURM, "grid.cost=null", "cluster.max_gpu_hours=5")
    assert code == 2 and "cost: unknown until the first run has measured it" in out
    way_out = "the seconds per iteration on shapes_tiny are unknown until a run has measured them; declare them with "
    assert f"cluster.max_gpu_hours=5: {way_out}++grid.cost.shapes_tiny=SECONDS, or cluster.max" in err
    found = act(tmp_path, capsys, *SLURM, "grid.cost=null", "cluster.max_gpu_hours=5", "++grid.cost.shapes_tiny=0.1")
    assert found[0] == 0 and "at 0.100 s per iteration (declared in the grid)" in found[1]


def test_a_data_set_in_coco_format_does_not_use_the_step_time_of_coco(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path / "data")
    paths = [f"dataset.{name}={value}" for name, value in LAYOUT.items()]
    given = ["grid=ablation", "cluster=slurm", "dataset=coco_format", f"dataset.root={tmp_path / 'data'}", *paths]
    runs, limit = tmp_path / "runs", "cluster.max_gpu_hours=9999"
    code, out, err = act(runs, capsys, *given, limit)
    assert code == 2 and "cost: unknown until the first run has measured it" in out
    assert "the seconds per iteration on coco_format are unknown" in err and "++grid.cost.coco_format=SECONDS" in err
    code, _, err = act(runs, capsys, *given, limit, "++grid.cost.coco_format=0.2")
    assert code == 2 and "the iterations per epoch on coco_format are unknown until a run has started" in err
    length = ["base.train.max_epochs=null", "base.train.max_iters=90"]
    code, out, err = act(runs, capsys, *given, limit, "++grid.cost.coco_format=0.2", *length)
    assert (code, err) == (0, "") and "0.200 s per iteration (declared in the grid for 8 processes)" in out


def test_nothing_is_refused_if_nothing_is_launched(tmp_path: Path) -> None:
    grid, profile = resolved(*SLURM, "base.pretrain=null", "cluster.max_gpu_hours=0.000001")
    with pytest.raises(UserError, match="max_gpu_hours"):
        refuse(grid, tmp_path, profile)
    for spec in grid.runs:
        measured(tmp_path, spec, 1e6)
    assert refuse(grid, tmp_path, profile).to_launch == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["base.train.checkpoint_interval=200"], None),
        (
            ["base.train.checkpoint_interval=300"],
            "5.0 minutes (base.train.checkpoint_interval=300 at 1.000 s",
        ),
        (["base.train.checkpoint_interval=300", "base.train.val_interval=100"], None),
        (
            ["base.train.checkpoint_interval=1", "base.train.val_interval=400"],
            "6.7 minutes (base.train.val_interval=",
        ),
        (["base.train.checkpoint_interval=100", "base.train.val_interval=epoch"], None),
        (["base.train.checkpoint_interval=300", "base.train.val_interval=epoch"], "base.train.checkpoint_interval=300"),
        (
            ["base.train.checkpoint_interval=9999", "base.train.max_iters=150"],
            None,
        ),  # the run ends before the next evaluation
        (["base.train.checkpoint_interval=9999", "grid.cost=null"], None),
    ],
)
def test_a_time_limit_holds_one_evaluation_interval(
    tmp_path: Path, capsys: Any, overrides: list[str], message: str | None
) -> None:
    """A limit of 6 minutes with a warning of 2 leaves 240 s."""
    time = ("base.pretrain=null", "base.train.max_iters=3600", "cluster.time=6", "grid.cost.shapes=1")
    code, _, err = act(tmp_path, capsys, *SLURM, *time, *overrides)
    assert code == (2 if message else 0)
    if message:
        assert (
            "cluster.time=6 minutes: cannot hold one evaluation interval of baseline/seed0, " in err and message in err
        )
        assert "cluster.warning_seconds=120; give a longer time or a shorter interval" in err


def test_the_hours_of_all_attempts_are_added(tmp_path: Path, capsys: Any) -> None:
    grid, _ = resolved(*SLURM, "base.pretrain=null", "cluster.gpus_per_node=2")
    for spec in grid.runs[:2]:
        measured(tmp_path, spec, 1.0)
    out = act(tmp_path, capsys, *SLURM, "base.pretrain=null", "cluster.gpus_per_node=2")[1]
    assert "spent: 4.00 GPU-hours, in 2 attempts" in out

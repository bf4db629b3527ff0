"""The plan reads the disk and changes nothing, fast and without torch; `why` names what makes runs differ."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dynamic_rcnn.run.files import METRICS, PROVENANCE, STATUS, TRAIN_LOG, write_json_atomic
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.config.overrides import describe_overruled
from experiments.planning import run_state as disk
from experiments.planning.directories import Directories, nearest_differences
from experiments.planning.manifest import write_manifest
from experiments.planning.plan import make_plan
from tests.experiments.launches import LAUNCH, PROJECT, listing

SMOKE = ("grid=smoke", "base.pretrain=null", "cluster=local")


def grid(*overrides: str) -> Grid:
    return build_grid(resolve([*SMOKE, *overrides])[0])


def make_done(runs: Path, found: Grid, code: str | None = None) -> None:
    """Put finished runs of a grid on disk, with their manifest."""
    for spec in found.runs:
        path = spec.directory(runs)
        spec.write(path)
        write_json_atomic(path / STATUS, {"schema": 1, "state": "done", "iteration": 20, "max_iterations": 20})
        write_json_atomic(path / PROVENANCE, {"schema": 1, "code": code or disk.code_now()})
        row = {"iteration": 20, "loss": 1.5, "T": 0.5, "beta": 1.0, "seconds": 0.125}
        (path / TRAIN_LOG).write_text(json.dumps(row) + "\n")
        write_json_atomic(path / METRICS, {"schema": 1, "metrics": {"AP": 0.5, "AP90": 0.1}})
    write_manifest(found, runs, {spec.id: spec.directory(runs) for spec in found.runs})


def act(runs: Path, capsys: Any, *arguments: str) -> str:
    with mock.patch.dict(os.environ, {"COLUMNS": "400"}):  # pytest-xdist says 80
        assert launch.main([*SMOKE, f"runs={runs}", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return str(captured.out)


def test_planning_loads_no_torch_and_changes_nothing(tmp_path: Path) -> None:
    make_done(tmp_path, grid("arms=[dla]"))
    code = (
        "import sys; from experiments import launch; code = launch.main(sys.argv[1:])\n"
        "loaded = {'torch', 'mmdet', 'mmengine', 'mmcv', 'cv2', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    before = listing(tmp_path)
    arguments = [*SMOKE, f"runs={tmp_path}"]
    for action in ("plan", "status", "why"):
        command = [sys.executable, "-c", code, *arguments, f"action={action}"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert listing(tmp_path) == before


def test_planning_creates_no_folder(tmp_path: Path, capsys: Any) -> None:
    for action in ("plan", "status", "why", "cancel"):
        act(tmp_path / "nothing", capsys, f"action={action}")
    assert list(tmp_path.iterdir()) == []


def test_planning_takes_a_few_times_as_long_as_importing_hydra(tmp_path: Path) -> None:
    """About four times, a second here; with torch or mmdet among the imports it would be far more than eight times."""
    plan = [*LAUNCH, "grid=ablation", "dataset=shapes", "action=plan", f"runs={tmp_path}"]
    hydra = [sys.executable, "-c", "import hydra, omegaconf, hydra.core.global_hydra"]
    pairs = [(cpu_seconds(plan), cpu_seconds(hydra)) for _ in range(3)]  # the first one may have to compile
    assert min(first for first, _ in pairs) < 8 * min(second for _, second in pairs)


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_plan_counts_states_and_cost(tmp_path: Path, capsys: Any) -> None:
    assert "cost: 0.01 hours for the runs to launch, one at a time, at 0.250 s per iteration (declared" in act(
        tmp_path, capsys, "action=plan"
    )
    make_done(tmp_path, grid("arms=[baseline,dla]"))
    out = act(tmp_path, capsys, "action=plan", "seeds=[0,1]")
    assert "8 runs (4 arms x 2 seeds): 6 new, 2 done" in out
    assert "at 0.125 s per iteration (measured over 2 runs)" in out


def test_an_epoch_schedule_has_no_cost_before_it_is_measured(tmp_path: Path, capsys: Any) -> None:
    out = act(tmp_path, capsys, "action=plan", "base.train.max_iters=null", "base.train.max_epochs=1")
    assert "0/?" in out and "cost: unknown until the first run has measured it" in out


def test_why_names_the_field_that_makes_runs_differ(tmp_path: Path, capsys: Any) -> None:
    make_done(tmp_path, grid("arms=[dla]"))
    changed = ("arms=[dla]", "base.train.max_iters=30")
    out = act(tmp_path, capsys, "action=why", *changed)
    old = grid("arms=[dla]").runs[0]
    assert f"    config.train.max_iters: 20 in seed0-{old.id}, 30 here" in out
    assert f"differs from seed0-{old.id} in config.train.max_iters: 20 -> 30" in act(
        tmp_path, capsys, "action=plan", *changed
    )
    assert "config.train" not in act(tmp_path, capsys, "action=why", "arms=[dla]")


def test_the_nearest_of_several_runs_is_compared(tmp_path: Path) -> None:
    make_done(tmp_path, grid("arms=[dla]", "base.train.max_iters=40", "base.train.groups=8"))
    make_done(tmp_path, grid("arms=[dla]", "base.train.max_iters=40"))
    spec = grid("arms=[dla]").runs[0]
    found = nearest_differences(spec, spec.directory(tmp_path), Directories(tmp_path, "shapes_tiny"))
    assert found is not None and found[1] == [("config.train.max_iters", 40, 20)]


def test_runs_made_by_other_code_are_stale(tmp_path: Path) -> None:
    found = grid("arms=[dla]")
    make_done(tmp_path, found, code="0123456789")
    (run,) = make_plan(found, tmp_path)
    assert (run.state, run.to_launch) == ("stale", False)
    assert "made by different code (0123456789, now " in run.why
    (found.runs[0].directory(tmp_path) / PROVENANCE).write_text("{")
    (run,) = make_plan(found, tmp_path)
    assert run.state == "stale" and "provenance.json: not valid JSON" in run.why


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({}, ""),
        ({"T": 0.6}, "replays both/seed0, which trained with other T and beta and ended with [0.6, 1.0]; rerun=stale"),
        ({"beta": 0.25}, "replays both/seed0, which trained with other T and beta and ended with [0.5, 0.25]; rerun="),
        ({"code": "0123456789"}, "replays both/seed0, which is stale; rerun=stale runs it again"),
    ],
)
def test_a_replay_is_stale_with_what_it_replays(tmp_path: Path, source: dict[str, Any], why: str) -> None:
    here = ["grid=dynamics", "base.pretrain=null", "cluster=local", "dataset=shapes"]
    found = build_grid(resolve([*here, "seeds=[0]", "arms=[baseline,both,end_point]"])[0])
    make_done(tmp_path, found)
    (both,) = [spec.directory(tmp_path) for spec in found.runs if spec.arm == "both"]
    row = {"iteration": 20, "loss": 1.5, "T": 0.5, "beta": 1.0, "seconds": 0.125, **source}
    (both / TRAIN_LOG).write_text(json.dumps(row) + "\n")
    if "code" in source:
        write_json_atomic(both / PROVENANCE, {"schema": 1, "code": source["code"]})
    states = {run.spec.arm: run for run in make_plan(found, tmp_path)}
    assert states["end_point"].why.startswith(why) and states["end_point"].state == ("stale" if why else "done")
    assert states["baseline"].state == "done"


@pytest.mark.parametrize("arm", ["reversed", "shuffled"])
def test_a_replay_in_another_order_may_end_with_any_state_of_what_it_replays(tmp_path: Path, arm: str) -> None:
    here = ["grid=dynamics", "base.pretrain=null", "cluster=local", "dataset=shapes"]
    found = build_grid(resolve([*here, "seeds=[0]", f"arms=[baseline,both,{arm}]"])[0])
    make_done(tmp_path, found)
    logs = {spec.arm: spec.directory(tmp_path) / TRAIN_LOG for spec in found.runs}
    log_states(logs["both"], (0.4, 1.0), (0.5, 0.5), (0.6, 0.2))
    for states, state in (([(0.6, 0.2), (0.4, 1.0)], "done"), ([(0.6, 0.2), (0.4, 0.9)], "stale")):
        log_states(logs[arm], *states)
        assert {run.spec.arm: run.state for run in make_plan(found, tmp_path)}[arm] == state


@pytest.mark.parametrize("arm", ["both", "end_point"])
def test_a_replay_whose_states_cannot_be_compared_is_stale(tmp_path: Path, arm: str) -> None:
    here = ["grid=dynamics", "base.pretrain=null", "cluster=local", "dataset=shapes"]
    found = build_grid(resolve([*here, "seeds=[0]", "arms=[baseline,both,end_point]"])[0])
    make_done(tmp_path, found)
    (log,) = [spec.directory(tmp_path) / TRAIN_LOG for spec in found.runs if spec.arm == arm]
    log.write_text("5\n{broken\n")
    (run,) = [run for run in make_plan(found, tmp_path) if run.spec.arm == "end_point"]
    assert run.state == "stale" and f"train.jsonl of {log.parent.name} has no T and beta" in run.why


def log_states(path: Path, *states: tuple[float, float]) -> None:
    rows = [{"iteration": 10 * at, "T": state[0], "beta": state[1]} for at, state in enumerate(states, start=1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("code", [None, "0123456789"])
def test_an_evaluation_is_stale_with_the_run_whose_weights_it_evaluates(tmp_path: Path, code: str | None) -> None:
    arm = "{title: nine detections, weights_of: both, set: {model.test_cfg.rcnn.max_per_img: 9}}"
    found = grid("arms=[both,soft]", f"++grid.arms.soft={arm}")
    make_done(tmp_path, found)
    if code:
        write_json_atomic(found.runs[0].directory(tmp_path) / PROVENANCE, {"schema": 1, "code": code})
    both, soft = make_plan(found, tmp_path)
    assert both.state == soft.state == ("stale" if code else "done")
    assert soft.why.startswith("evaluates both/seed0, which is stale; rerun=stale runs it again" if code else "")


def test_changes_that_arms_override_are_reported(tmp_path: Path, capsys: Any) -> None:
    method = "base.model.train_cfg.rcnn.dynamic_rcnn"
    changes = (f"{method}.smooth_l1=true", "base.train.max_iters=30")
    line = f"{method}.smooth_l1: has no effect on dsl, both, which set it themselves"
    out = act(tmp_path, capsys, "action=plan", *changes)
    assert line in out.splitlines() and out.count("has no effect on") == 1
    assert "has no effect on" not in act(tmp_path, capsys, "action=plan", "arms=[baseline,dla]", *changes)
    switches = "label_assignment: true, smooth_l1: false, all_reduce: false, statistic: mmdet"
    numbers = "iou_topk: 30, beta_topk: 3, update_iter_interval: 25, initial_iou: 0.4, initial_beta: 1.0"
    whole = f"++grid.arms.dla.set={{{method.removeprefix('base.')}: {{{switches}, {numbers}}}}}"  # sets all below it
    config, _ = resolve([*SMOKE, "arms=[dla]", whole, *changes])
    assert describe_overruled(config, [f"{method}.smooth_l1"]) == [
        f"{method}.smooth_l1: has no effect on dla, which set it themselves"
    ]


def test_the_fingerprint_of_the_code_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_done(tmp_path, grid())
    calls = []
    monkeypatch.setattr(disk, "code_fingerprint", lambda: calls.append(1) or "0123456789")
    disk.code_now.cache_clear()
    try:
        for _ in range(3):
            make_plan(grid(), tmp_path)
    finally:
        disk.code_now.cache_clear()
    assert len(calls) == 1


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', '{"schema": 1, "runs": [{"arm": "x"}]}'])
def test_a_damaged_manifest_is_reported_before_anything_is_launched(tmp_path: Path, text: str, capsys: Any) -> None:
    found = grid("arms=[dla]")
    make_done(tmp_path, found)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    manifest.write_text(text)
    before = listing(tmp_path)
    assert launch.main([*SMOKE, f"runs={tmp_path}", "arms=[dla,dsl]"]) == 2
    assert f"error: {manifest}: " in capsys.readouterr().err
    assert listing(tmp_path) == before


def test_a_torn_or_foreign_row_does_not_break_the_tables(tmp_path: Path, capsys: Any) -> None:
    found = grid("arms=[dla]")
    make_done(tmp_path, found)
    log = found.runs[0].directory(tmp_path) / TRAIN_LOG
    assert "1.500" in act(tmp_path, capsys, "action=status", "arms=[dla]")
    for text in ("", '{"iteration": 3', "[]\n", '{"iteration": 3}\n', "\x00\xff\n"):
        log.write_text(text)
        assert "dla/seed0" in act(tmp_path, capsys, "action=status", "arms=[dla]")


def test_planning_again_is_fast_enough_to_repeat_every_second(tmp_path: Path) -> None:
    found = grid("seeds=[0,1,2,3,4]")
    make_done(tmp_path, found)
    make_plan(found, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for _ in range(5):
        make_plan(found, tmp_path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / 5 < 0.1  # 20 runs

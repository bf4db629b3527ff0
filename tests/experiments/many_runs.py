"""Time plan and status on a thousand runs, as a large sweep leaves them on disk.

    python -m tests.experiments.many_runs FOLDER

200 arms x 5 seeds: half of them done, the others failed or new. The launcher's code is copied into FOLDER with a grid
of its own, so that the time of the whole command is measured, with the start of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dynamic_rcnn.run.files import METRICS, PROVENANCE, STATUS, TRAIN_LOG
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.config.schema import GridFile
from experiments.planning.manifest import write_manifest
from experiments.planning.plan import plan_or_disk
from experiments.planning.run_state import code_now
from experiments.views.watch import View

PROJECT = Path(__file__).resolve().parents[2]
ARMS, SEEDS, ROWS = 200, 5, 200
_HEAD = """# @package _global_
grid:
  name: many
  title: many runs
  seeds: [0, 1, 2, 3, 4]
  baseline: arm000
  cost: {shapes: 0.25}
  paper: null
  arms:
"""
_ARM = "    arm{number:03}: {{title: arm {number}, set: {{model.train_cfg.rcnn.dynamic_rcnn.iou_topk: {topk}}}}}\n"


def copied_project(folder: Path) -> Path:
    """Copy the launcher into `folder`, with a grid `many` of ARMS arms. Returns the path of launch.py."""
    project = folder / "project"
    shutil.copytree(PROJECT / "experiments", project / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("dynamic_rcnn", "slurm"):
        (project / package).symlink_to(PROJECT / package)
    arms = "".join(_ARM.format(number=number, topk=number + 100) for number in range(ARMS))
    grid = project / "experiments" / "conf" / "grid" / "many.yaml"
    grid.write_text(_HEAD + arms)
    return project / "experiments" / "launch.py"


def make_runs(runs: Path, grid: Grid) -> None:
    """Write a grid's run directories: of eight, four are done, two have failed, one was killed, and one is new."""
    for number, spec in enumerate(grid.runs):
        path = spec.directory(runs)
        if number % 8 != 7:
            _make(path, spec, ("done", "done", "done", "done", "NaN", "time-out", "killed")[number % 8])
    write_manifest(grid, runs, {spec.id: spec.directory(runs) for spec in grid.runs})


def _make(path: Path, spec: RunSpec, outcome: str) -> None:
    (path / "logs").mkdir(parents=True)
    (path / "checkpoints").mkdir()
    (path / "lock").touch()
    spec.write(path)
    done = outcome == "done"
    reached = 600 if done else 300
    state = {"done": "done", "killed": "running"}.get(outcome, "failed")
    attempts = [_attempt(1, "preempted", 0, 200), _attempt(2, outcome, 200, reached)]
    cause = outcome if state == "failed" else None
    status = {"state": state, "cause": cause, "message": cause and "at iteration 300", "iteration": reached}
    status |= {"max_iterations": 600, "heartbeat": time.time(), "attempts": attempts}
    (path / STATUS).write_text(json.dumps({"schema": 1, **status}, indent=1))
    (path / "logs" / "attempt2.log").write_text("iteration 300/600\n" * 200)
    provenance = {
        "schema": 1,
        "code": code_now(),
        "device": "cpu",
        "versions": {f"package{n}": "1.2.3" for n in range(12)},
    }
    (path / PROVENANCE).write_text(json.dumps({**provenance, "diff": "+\n" * 500}, indent=1))
    losses = {f"loss_{name}": 0.123456789012 for name in ("rpn_cls", "rpn_bbox", "cls", "bbox")}
    row = {**losses, "loss": 0.5, "lr": 0.02, "T": 0.5, "beta": 0.2, "positives": 16.0, "seconds": 0.25}
    rows = (json.dumps({"iteration": (n + 1) * reached // ROWS, **row}) + "\n" for n in range(ROWS))
    (path / TRAIN_LOG).write_text("".join(rows))
    if done:
        metrics = {name: 0.3123456789 for name in ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "APs", "APm")}
        per_class = {f"class{n}": {"AP": 0.3123456789, "AP50": 0.5, "AP75": 0.4, "AP90": 0.1} for n in range(80)}
        (path / METRICS).write_text(json.dumps({"schema": 1, "metrics": metrics, "per_class": per_class}, indent=1))


def _attempt(number: int, outcome: str, first: int, last: int) -> dict[str, Any]:
    ended = time.time()
    times = {"started": ended - 900.0, "ended": None if outcome == "killed" else ended}
    iterations = {"from_iteration": first, "to_iteration": last}
    who = {"host": "node7", "pid": 4711, "job": f"123_{number}", "restart": number - 1, "nodes": "node[7-8]"}
    return {
        "number": number,
        **times,
        **iterations,
        "outcome": outcome,
        **who,
        "log": f"logs/attempt{number}.log",
        "notes": [],
    }


def measure(command: list[str], times: int = 3) -> float:
    """The shortest time of a command, in seconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "200"}, check=True)
        taken.append(time.perf_counter() - started)
    return min(taken)


def main(folder: Path) -> None:
    launcher, runs = copied_project(folder), folder / "runs"
    arguments = ["dataset=shapes", "cluster=local", "base.pretrain=null"]
    config = resolve(["grid=ablation", *arguments])[0]
    many = OmegaConf.to_container(OmegaConf.load(launcher.parent / "conf" / "grid" / "many.yaml").grid)
    settings = config.settings.model_copy(update={"grid": GridFile.model_validate(many)})
    grid = build_grid(replace(config, settings=settings))
    make_runs(runs, grid)
    print("python alone", f"{measure([sys.executable, '-c', 'pass']):.2f} s")
    for action in ("plan", "status", "status json=true"):
        command = [
            sys.executable,
            str(launcher),
            "grid=many",
            *arguments,
            f"runs={runs}",
            f"action={action.split()[0]}",
        ]
        print(action, f"{measure([*command, *action.split()[1:]]):.2f} s", flush=True)
    view = View(grid, runs, *plan_or_disk(grid, runs))
    started = time.perf_counter()
    view.draw(160, 50)
    print("a screen of status watch=true", f"{time.perf_counter() - started:.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

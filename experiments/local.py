"""Run the missing runs of a grid on this machine, under the grid's lock, with live progress."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from dynamic_rcnn import dataset as datasets
from dynamic_rcnn.run.directory import LOGS, is_locked
from dynamic_rcnn.run.spec import RunSpec
from experiments import tables
from experiments.grid import Grid
from experiments.locks import launcher_lock, refuse_second
from experiments.manifest import manifest_path, read_manifest, write_manifest
from experiments.plan import PlannedRun, make_plan
from experiments.progress import progress
from experiments.settings import PROJECT
from slurm.local import Job, LocalQueue, cores, visible_gpus

TRAINER = (sys.executable, "-m", "dynamic_rcnn.train")


def launch(grid: Grid, runs: Path, cluster: DictConfig, rerun: str, arguments: Sequence[str]) -> int:
    """Run what is not done. Returns 0 if every run is done, 1 if not. KeyboardInterrupt after a clean stop.

    arguments: of the command line, for the record.
    """
    queue = _queue(cluster)
    refuse_second(grid, runs)
    read_manifest(manifest_path(grid, runs))
    if _wanted(make_plan(grid, runs), rerun):
        _look_at_data(grid)
    with launcher_lock(grid, runs):
        if rerun == "stale":
            _move_stale_aside(make_plan(grid, runs))
        plan = make_plan(grid, runs)
        jobs = _jobs(plan, grid, arguments)
        write_manifest(grid, runs, {run.spec.id: run.path for run in plan})
        if jobs:
            _announce(queue, len(jobs))
            _run(queue, jobs, grid, runs)
        return _report_end([_with_exit_code(run, queue.exit_codes) for run in make_plan(grid, runs)])


def _run(queue: LocalQueue, jobs: list[Job], grid: Grid, runs: Path) -> None:
    try:
        with progress(grid, runs) as tick:
            queue.run(jobs, tick)
    except KeyboardInterrupt:
        print("the runs have stopped; the same command goes on from their checkpoints", file=sys.stderr)
        raise


def _with_exit_code(run: PlannedRun, codes: Mapping[str, int | None]) -> PlannedRun:
    """`run`, failed if its process ended before it could say so itself."""
    code = codes.get(run.spec.id)
    if run.state == "new" and code:
        return replace(run, state="failed", why=f"its process ended with exit code {code} before its first status")
    if run.state == "failed" and code == -signal.SIGKILL:
        return replace(run, why=f"{run.why} (signal 9: often the kernel's, when memory runs out)")
    return run


def _wanted(plan: list[PlannedRun], rerun: str = "none") -> list[PlannedRun]:
    """The runs to start or, where another launcher trains them, to wait for; one of each identity."""
    wanted = [run for run in plan if run.to_launch or run.state == "running" or run.state == rerun]
    return list({run.spec.id: run for run in reversed(wanted)}.values())[::-1]


def _jobs(plan: list[PlannedRun], grid: Grid, arguments: Sequence[str]) -> list[Job]:
    """A job for each run that is not done, after the run that it starts from; none where that cannot be had."""
    wanted = _wanted(plan)
    if grid.pretrain is None:
        return [_job(run, None, arguments) for run in wanted]
    start = plan[0]
    if start in wanted:
        return [_job(run, None if run is start else start.spec.id, arguments) for run in wanted]
    return [_job(run, None, arguments) for run in wanted] if start.state in ("done", "stale") else []


def _job(run: PlannedRun, after: str | None, arguments: Sequence[str]) -> Job:
    if run.state != "running":  # what does not change the result, such as where the data lie, may have changed
        replace(run.spec, arm=run.path.parent.name).write(run.path)
    log = f"{LOGS}/attempt{_next_attempt(run.path)}.log"
    command = shlex.join(["python", "experiments/launch.py", *arguments])
    return Job(
        name=run.spec.id,
        command=[*TRAINER, str(run.path)],
        log=run.path / log,
        after=after,
        ready=lambda: not is_locked(run.path),
        env={"DYNAMIC_RCNN_LOG": log, "DYNAMIC_RCNN_COMMAND": command},
        cwd=PROJECT,  # this checkout's code, not what may be installed from another
    )


def _next_attempt(path: Path) -> int:
    names = (re.fullmatch(r"attempt(\d+)\.log", log.name) for log in (path / LOGS).glob("attempt*.log"))
    return 1 + max((int(name[1]) for name in names if name), default=0)


def _queue(cluster: DictConfig) -> LocalQueue:
    gpus = visible_gpus()
    slots = cluster.slots or len(gpus) or cores()
    return LocalQueue(slots, cluster.threads or max(1, cores() // slots), gpus)


def _announce(queue: LocalQueue, count: int) -> None:
    runs, threads = ("run" if count == 1 else "runs"), ("thread" if queue.threads == 1 else "threads")
    gpus = f", GPUs {','.join(queue.gpus)}" if queue.gpus else ", on the CPU: no GPU is visible"
    print(f"{count} {runs} to go, {queue.slots} at a time, {queue.threads} {threads} each{gpus}", flush=True)


def _look_at_data(grid: Grid) -> None:
    """Whatever is wrong with the data is said before anything starts."""
    dataset = grid.runs[0].dataset
    folder = datasets.to_draw(dataset)
    if folder is not None:
        images = dataset["recipe"]["train_images"] + dataset["recipe"]["val_images"]
        print(f"drawing {images} images of shapes into {folder}, once", flush=True)
    datasets.check(dataset)


def _move_stale_aside(plan: list[PlannedRun]) -> None:
    """Rename the directories of stale runs, and begin them anew under the name that other grids know."""
    stale = {run.path: run for run in reversed(plan) if run.state == "stale"}  # arms of one identity have one directory
    for path, run in reversed(stale.items()):
        number = 1
        while (aside := path.with_name(f"{path.name}.stale{number}")).exists():
            number += 1
        path.rename(aside)
        RunSpec.read(aside).write(path)
        print(f"{run.spec.name}: stale, moved to {aside.name}", flush=True)


def _report_end(plan: list[PlannedRun]) -> int:
    console = tables.console()
    console.print(tables.status_table(plan, console.width))
    stale = sum(run.state == "stale" for run in plan)
    if stale:
        console.print(f"{stale} of {len(plan)} runs are stale: made by other code; rerun=stale runs them again")
    undone = [run for run in plan if run.state not in ("done", "stale")]
    if not undone:
        return 0
    console.print(tables.failures(plan))
    console.print(f"{len(undone)} of {len(plan)} runs are not done; launching again resumes them")
    if any(run.corrupt for run in plan):
        console.print("nothing is started over a directory with a corrupt record; mend it or move it away")
    return 1

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

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.run.claim import finish_swap
from dynamic_rcnn.run.directory import LOGS, is_locked
from dynamic_rcnn.run.spec import EVALUATE, RunSpec
from experiments.config.grid import Grid
from experiments.launching.local_queue import Job, LocalQueue, cores, share, visible_gpus
from experiments.launching.lock import launcher_lock, refuse_second
from experiments.planning.manifest import manifest_path, read_cells, write_manifest
from experiments.planning.plan import plan_or_disk
from experiments.planning.run_state import PlannedRun, disk_plan, with_needs
from experiments.views import tables
from experiments.views.progress import progress

TRAINER = (sys.executable, "-m", "dynamic_rcnn.train")


def launch(grid: Grid, runs: Path, cluster: DictConfig, rerun: str, arguments: Sequence[str]) -> int:
    """Run what is not done. Returns 0 if every run is done, 1 if not. KeyboardInterrupt after a clean stop.

    arguments: of the command line, for the record.
    """
    queue, make_plan = _queue(cluster), _Planner(grid, runs)
    refuse_second(grid, runs)
    read_cells(manifest_path(grid, runs))
    if wanted_runs(make_plan(), rerun):
        look_at_data(grid)
    with launcher_lock(grid, runs):
        if rerun == "stale":
            move_stale_aside(make_plan())
        plan = make_plan()
        jobs = _jobs(plan, arguments)
        write_manifest(grid, runs, {run.spec.id: run.path for run in plan})
        if jobs:
            _announce(queue, len(jobs))
            _run(queue, jobs, grid, runs)
        return _report_end([_with_exit_code(run, queue.exit_codes) for run in make_plan()])


class _Planner:
    """Makes the plan; where Slurm has runs and does not answer, it says so once and goes on with the disk alone.

    No run is trained twice at a time all the same: whoever trains one holds its claim.
    """

    def __init__(self, grid: Grid, runs: Path) -> None:
        self.grid, self.runs = grid, runs
        self.ask_slurm = True

    def __call__(self) -> list[PlannedRun]:
        if not self.ask_slurm:
            return with_needs(disk_plan(self.grid, self.runs))
        plan, silence = plan_or_disk(self.grid, self.runs)
        if silence is not None:
            self.ask_slurm = False
            print(silence, file=sys.stderr, flush=True)
        return plan


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


def wanted_runs(plan: list[PlannedRun], rerun: str = "none") -> list[PlannedRun]:
    """The runs to start or, where another launcher on this machine trains them, to wait for; one of each identity."""
    wanted = [
        run for run in plan if run.to_launch or run.state == rerun or (run.state == "running" and not run.in_queue)
    ]
    return list({run.spec.id: run for run in reversed(wanted)}.values())[::-1]


def _jobs(plan: list[PlannedRun], arguments: Sequence[str]) -> list[Job]:
    """A job for each run that is not done, after the runs that it needs; none where those cannot be had."""
    wanted = {run.spec.id: run for run in wanted_runs(plan)}
    there = {run.spec.id for run in plan if run.state in ("done", "stale")}
    while lost := [name for name, run in wanted.items() if not there.union(wanted).issuperset(run.spec.needs)]:
        for name in lost:
            del wanted[name]
    return [_job(run, [name for name in run.spec.needs if name in wanted], arguments) for run in wanted.values()]


def _job(run: PlannedRun, after: Sequence[str], arguments: Sequence[str]) -> Job:
    if run.state != "running":  # what does not change the result, such as where the data lie, may have changed
        finish_swap(run.path)
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
    processes, gpus = cluster.processes or 1, visible_gpus()
    slots, threads = share(processes, cluster.slots, cluster.threads, gpus, cores())
    return LocalQueue(slots, threads, gpus, processes)


def _announce(queue: LocalQueue, count: int) -> None:
    runs, threads = ("run" if count == 1 else "runs"), ("thread" if queue.threads == 1 else "threads")
    each = f"{queue.threads} {threads} each"
    if queue.processes > 1:
        each = f"{queue.processes} processes of {queue.threads} {threads} each"
    gpus = f", GPUs {','.join(queue.gpus)}" if queue.gpus else ", on the CPU: no GPU is visible"
    print(f"{count} {runs} to go, {queue.slots} at a time, {each}{gpus}", flush=True)


def look_at_data(grid: Grid) -> None:
    """Whatever is wrong with the data is said before anything starts."""
    dataset = grid.runs[0].dataset
    folder = datasets.to_draw(dataset)
    if folder is not None:
        images = dataset["recipe"]["train_images"] + dataset["recipe"]["val_images"]
        print(f"drawing {images} images of shapes into {folder}, once", flush=True)
    datasets.check(dataset, training=grid.task != EVALUATE, masks=grid.has_masks)


def move_stale_aside(plan: list[PlannedRun]) -> dict[Path, Path]:
    """Rename the directories of stale runs, and begin them anew under the name that other grids know.

    Returns where each was moved.
    """
    moved = {}
    stale = {run.path: run for run in reversed(plan) if run.state == "stale"}  # arms of one identity have one directory
    for path, run in reversed(stale.items()):
        number = 1
        while (aside := path.with_name(f"{path.name}.stale{number}")).exists():
            number += 1
        path.rename(aside)
        RunSpec.read(aside).write(path)
        print(f"{run.spec.name}: stale, moved to {aside.name}", flush=True)
        moved[path] = aside
    return moved


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
    queued = sum(run.in_queue for run in undone)
    if queued:
        console.print(f"{queued} of {len(plan)} runs are in Slurm's queue, not started here; action=status shows them")
    if queued < len(undone):
        console.print(f"{len(undone) - queued} of {len(plan)} runs are not done; launching again resumes them")
    if any(run.corrupt for run in plan):
        console.print("nothing is started over a directory with a corrupt record; mend it or move it away")
    return 1

"""Run the missing runs of a grid on this machine, under the grid's lock, with live progress."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from rich.live import Live

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import LOGS, STATUS, RunLockedError, is_locked, locked, read_json
from experiments import tables
from experiments.grid import Grid, validate_data
from experiments.plan import PlannedRun, make_plan, read_manifest
from slurm.local import Job, LocalQueue, cores, visible_gpus

_PLAIN_EVERY_S = 15.0


def launch(grid: Grid, runs: Path, cluster: DictConfig, rerun: str) -> int:
    """Run what is not done. Returns 0 if every run is done, 1 if not. KeyboardInterrupt after a clean stop."""
    validate_data(grid)
    with launcher_lock(grid, runs):
        plan = make_plan(grid, runs)
        if rerun == "stale":
            _move_stale_aside(plan)
            plan = make_plan(grid, runs)
        grid.write_manifest(runs, read_manifest(grid.manifest_path(runs)))
        queue = _queue(cluster, len([run for run in plan if run.to_launch or run.state == "running"]))
        with _progress(grid, runs) as tick:
            queue.run(_jobs(plan, grid), tick)
        return _report_end(make_plan(grid, runs))


def _jobs(plan: list[PlannedRun], grid: Grid) -> list[Job]:
    """A job for each run that is not done; runs that others train are asked for again until they are."""
    wanted = [run for run in plan if run.to_launch or run.state == "running"]
    start = grid.pretrain.id if grid.pretrain else None
    return [_job(run, start if run.spec.id != start and _waits_for(start, wanted) else None) for run in wanted]


def _waits_for(start: str | None, wanted: list[PlannedRun]) -> bool:
    return any(run.spec.id == start for run in wanted)


def _job(run: PlannedRun, after: str | None) -> Job:
    if run.state != "running":
        run.spec.write(run.path)
    log = f"{LOGS}/attempt{_next_attempt(run.path)}.log"
    return Job(
        name=run.spec.id + ("" if run.spec.arm == "pretrain" else f"-{run.spec.seed}"),
        command=[sys.executable, "-m", "dynamic_rcnn.train", str(run.path)],
        log=run.path / log,
        after=after,
        env={"DYNAMIC_RCNN_LOG": log, "DYNAMIC_RCNN_COMMAND": _command()},
    )


def _command() -> str:
    return " ".join(["python experiments/launch.py", *sys.argv[1:]])


def _next_attempt(path: Path) -> int:
    return 1 + max([0, *(int(log.stem[7:]) for log in (path / LOGS).glob("attempt*.log"))])


def _queue(cluster: DictConfig, count: int) -> LocalQueue:
    gpus = visible_gpus()
    for name in ("slots", "threads"):
        value = cluster[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"cluster.{name}={value}: must be an integer of at least 1, or null")
    slots = cluster.slots or len(gpus) or cores()
    threads = cluster.threads or max(1, cores() // slots)
    print(
        f"{count} runs to go, {slots} at a time, {threads} threads each" + (f", GPUs {','.join(gpus)}" if gpus else "")
    )
    return LocalQueue(slots, threads, gpus)


@contextmanager
def launcher_lock(grid: Grid, runs: Path) -> Iterator[None]:
    """One launcher a grid and setting; its process id is beside the lock, for `action=cancel`."""
    folder = launcher_folder(grid, runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            (folder / "pid").write_text(str(os.getpid()))
            yield
    except RunLockedError:
        raise UserError(
            f"{grid.manifest_path(runs).name}: another launcher is at work on this grid; action=status shows it, "
            "action=cancel stops it"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.filename or runs}: cannot be written ({error.strerror}); choose another runs="
        ) from None


def launcher_folder(grid: Grid, runs: Path) -> Path:
    return runs / grid.dataset / f".launcher-{grid.name}-{grid.setting}"


def cancel(grid: Grid, runs: Path) -> int:
    """Stop the grid's launcher and its runs; each writes a checkpoint first. Returns how many were stopped."""
    stopped = 0
    folder = launcher_folder(grid, runs)
    if is_locked(folder):
        os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        stopped += 1
    for run in make_plan(grid, runs):
        if run.state == "running":
            attempts = read_json(run.path / STATUS)["attempts"]
            os.kill(attempts[-1]["pid"], signal.SIGTERM)
            stopped += 1
    return stopped


def _move_stale_aside(plan: list[PlannedRun]) -> None:
    for run in plan:
        if run.state == "stale":
            number = 1
            while (aside := run.path.with_name(f"{run.path.name}.stale{number}")).exists():
                number += 1
            run.path.rename(aside)


@contextmanager
def _progress(grid: Grid, runs: Path) -> Iterator:
    """A function to call often: a live table on a terminal, else a plain line a run now and then."""
    console = tables.console()
    if not console.is_terminal:
        yield _PlainProgress(grid, runs)
        return
    with Live(console=console, refresh_per_second=2) as live:
        last = 0.0

        def tick() -> None:
            nonlocal last
            if time.monotonic() - last > 1.0:
                last = time.monotonic()
                live.update(tables.status_table(make_plan(grid, runs)))

        yield tick


class _PlainProgress:
    def __init__(self, grid: Grid, runs: Path) -> None:
        self.grid, self.runs = grid, runs
        self.states: dict[str, str] = {}
        self.last_check = self.last_lines = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.last_check < 1.0:
            return
        self.last_check = now
        plan = make_plan(self.grid, self.runs)
        for run in plan:
            if self.states.get(run.spec.name, run.state) != run.state:
                print(f"{run.spec.name}: {run.state}{': ' + run.why if run.why else ''}", flush=True)
            self.states[run.spec.name] = run.state
        if now - self.last_lines > _PLAIN_EVERY_S:
            self.last_lines = now
            for run in plan:
                if run.state == "running":
                    print(tables.progress_line(run), flush=True)


def _report_end(plan: list[PlannedRun]) -> int:
    console = tables.console()
    console.print(tables.status_table(plan))
    if all(run.state in ("done", "stale") for run in plan):
        return 0
    console.print(tables.failures(plan))
    undone = [run for run in plan if run.state not in ("done", "stale")]
    console.print(f"{len(undone)} of {len(plan)} runs are not done; launching again resumes them")
    return 1

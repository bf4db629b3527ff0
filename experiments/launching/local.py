"""Run the missing runs of a grid on this machine, with live progress."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn import PROJECT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import claimed
from dynamic_rcnn.run.files import find_logs, log_name
from dynamic_rcnn.run.lock import is_locked
from dynamic_rcnn.run.process_env import ProcessEnv
from dynamic_rcnn.run.status import StatusFile
from dynamic_rcnn.wording import plural
from experiments.config.grid import Grid
from experiments.config.schema import LocalCluster
from experiments.launching.common import checked_launch, launch_command, moved_aside, restart, wanted_runs, write_spec
from experiments.launching.local_queue import Job, LocalQueue, slots_and_threads, visible_gpus
from experiments.planning.manifest import write_manifest
from experiments.planning.plan import plan_or_disk
from experiments.planning.run_state import FINAL, PlannedRun, read_again
from experiments.views import tables
from experiments.views.progress import progress

TRAINER = (sys.executable, "-m", "dynamic_rcnn.train")


def launch(grid: Grid, runs: Path, cluster: LocalCluster, rerun: str, decode: str, arguments: Sequence[str]) -> int:
    """Run every run of the grid that is not done; with rerun="stale" also those that other code made.

    Returns 0 if every run is done, else 1. Raises KeyboardInterrupt after the runs have stopped.
    """
    processes, gpus = cluster.processes or 1, visible_gpus()
    slots, threads = slots_and_threads(processes, cluster.slots, cluster.threads, gpus, len(os.sched_getaffinity(0)))
    queue = LocalQueue(slots, threads, gpus, processes)
    with checked_launch(grid, runs, rerun, decode):
        plan = _plan(grid, runs, arguments)
        restarted = restart(plan, rerun)
        with moved_aside(plan, rerun):
            write_manifest(grid, runs, {run.spec.id: run.path for run in restarted})
            jobs = _make_jobs(restarted, arguments)
            if jobs:
                print(_announcement(queue, len(jobs)), flush=True)
                try:
                    with progress(grid, runs) as show_progress:
                        queue.run(jobs, show_progress)
                except KeyboardInterrupt:
                    print(
                        "the runs have stopped; the same command resumes them from their checkpoints", file=sys.stderr
                    )
                    raise
            failed = {name: code for name, code in queue.exit_codes.items() if code}
            for run in read_again(plan, failed):
                if run.state == "new" and run.spec.id in failed:
                    _record_early_end(run, failed[run.spec.id])
        ended = read_again(plan, queue.exit_codes)
        return _report([_with_exit_code(run, queue.exit_codes.get(run.spec.id)) for run in ended])


def _plan(grid: Grid, runs: Path, arguments: Sequence[str]) -> list[PlannedRun]:
    """The plan. Raises UserError if cluster=auto chose this machine although queued jobs may train the runs."""
    plan, slurm_error = plan_or_disk(grid, runs)
    if slurm_error is not None:
        if not any(item.startswith("cluster=") and item != "cluster=auto" for item in arguments):
            raise UserError(
                f"cluster=auto: {slurm_error}; runs that were submitted may be in the queue: launch again when Slurm "
                "answers, or with cluster=local to train them here"
            )
        print(slurm_error, file=sys.stderr, flush=True)
    return plan


def _make_jobs(plan: Sequence[PlannedRun], arguments: Sequence[str]) -> list[Job]:
    """A job for each run that is not done, unless it needs a run that will not be done either."""
    wanted = {run.spec.id: run for run in wanted_runs(plan, running_here=True)}
    done = {run.spec.id for run in plan if run.state in FINAL}
    while blocked := [name for name, run in wanted.items() if not done.union(wanted).issuperset(run.spec.needs)]:
        for name in blocked:
            del wanted[name]
    return [_make_job(run, [name for name in run.spec.needs if name in wanted], arguments) for run in wanted.values()]


def _make_job(run: PlannedRun, after: Sequence[str], arguments: Sequence[str]) -> Job:
    if run.state != "running":
        write_spec(run)
    log = log_name(1 + max([len(run.attempts), *(attempt for attempt, _ in find_logs(run.path))]))
    return Job(
        name=run.spec.id,
        command=[*TRAINER, str(run.path)],
        log=run.path / log,
        after=after,
        ready=lambda: not is_locked(run.path),
        env=ProcessEnv(log=log, command=launch_command(arguments)).to_env({}),
        cwd=PROJECT,  # runs this checkout's code, not an installed copy
    )


def _announcement(queue: LocalQueue, count: int) -> str:
    processes = f"{queue.processes} processes of " if queue.processes > 1 else ""
    gpus = f"GPUs {','.join(queue.gpus)}" if queue.gpus else "on the CPU: no GPU is visible"
    threads = plural("thread", queue.threads)
    return f"{plural('run', count)} to go, {queue.slots} at a time, {processes}{threads} each, {gpus}"


def _record_early_end(run: PlannedRun, code: int) -> None:
    """Record the end of a process that ended before it wrote a status."""
    cause, end = "error", f"the process exited with code {code}"
    if code < 0:
        cause, end = "killed", f"the process was killed by {signal.Signals(-code).name}"
    newest = max((attempt for attempt, _ in find_logs(run.path)), default=1)
    with claimed(run.path):
        StatusFile(Path(), run.iterations or 0).add_failed(cause, f"{end} before it wrote a status", log_name(newest))


def _with_exit_code(run: PlannedRun, code: int | None) -> PlannedRun:
    """`run` with a note on its exit code, if that says more than its status."""
    if run.state == "failed" and code == -signal.SIGKILL:
        return replace(run, why=f"{run.why} (signal 9: often sent by the kernel when memory runs out)")
    return run


def _report(plan: list[PlannedRun]) -> int:
    """Print how the runs ended. Returns the exit code."""
    console = tables.console()
    console.print(tables.status_table(plan, console.width))
    stale = sum(run.state == "stale" for run in plan)
    if stale:
        console.print(f"{stale} of {len(plan)} runs are stale (made by different code); rerun=stale repeats them")
    undone = [run for run in plan if run.state not in FINAL]
    if not undone:
        return 0
    console.print(tables.failures(plan))
    queued = sum(run.in_queue for run in undone)
    if queued:
        console.print(f"{queued} of {len(plan)} runs are in Slurm's queue, not started here; action=status shows them")
    corrupt = sum(run.corrupt for run in undone)
    if queued + corrupt < len(undone):
        count = len(undone) - queued - corrupt
        console.print(f"{count} of {len(plan)} runs are not done; launching again resumes them")
    if corrupt:
        console.print("a run directory with a corrupt record is not overwritten: repair it or move it away")
    return 1

"""Submit the missing runs of a grid to Slurm and return; cancel them; show the batch scripts."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn import cli as commands
from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.wording import plural
from experiments.config.grid import Grid
from experiments.launching.common import checked_launch, launch_command, moved_aside, restart, wanted_runs, write_spec
from experiments.launching.lock import hold_lock
from experiments.planning import cost
from experiments.planning.manifest import write_manifest
from experiments.planning.plan import make_plan, plan_or_disk
from experiments.planning.run_state import FINAL, PlannedRun, disk_plan
from experiments.planning.slurm_state import ENDING, ending_jobs, open_submissions, queued_jobs, relative_run_dir
from experiments.views import tables
from slurm import cli, job_arrays
from slurm.bad_nodes import find_bad_nodes, leave_out
from slurm.cli import QueuedJob, SlurmError
from slurm.code_snapshot import freeze, frozen_path
from slurm.job_arrays import Array, UnansweredError
from slurm.site_profile import Profile
from slurm.submission_record import Chunk, Submission, check_runs_folder, read_all, runs_and_jobs, submissions_folder
from slurm.user_settings import with_user_settings

CODE = ".code"
TRAINER = ("-m", "dynamic_rcnn.train", ".")  # arguments of the job's Python
_LOCK_PATIENCE_S = 120.0
_SBATCH_S = 45.0  # from the last write of a submission until its sbatch has surely ended
_ENDING_S = 120.0  # how long jobs may take to end before a launch counts them as running


def launch(grid: Grid, runs: Path, profile: Profile, rerun: str, decode: str, arguments: Sequence[str]) -> int:
    """Submit every run of the grid that is neither done nor in the queue; with rerun="stale" also stale ones.

    Returns 0, or 1 if some run could not be submitted. Raises KeyboardInterrupt also after SIGTERM.
    """
    check_runs_folder(runs)
    profile = _with_user_settings(profile)
    folder = submissions_folder(runs, grid.dataset)
    max_array_size = functools.cache(cli.max_array_size)
    with (
        commands.handle_signals([signal.SIGTERM], _interrupt),
        checked_launch(grid, runs, rerun, decode, max_array_size),  # asked before anything is written
    ):
        folder.mkdir(parents=True, exist_ok=True)
        # grids share runs, such as a pretraining: two launchers must not both submit one
        busy = SlurmError(f"{folder}: another launcher is submitting runs on this data set; try again later")
        with hold_lock(folder, lambda: busy, _LOCK_PATIENCE_S):
            _wait_for_slurm(grid, runs)
            plan = make_plan(grid, runs)
            restarted = restart(plan, rerun)
            cost.refuse(cost.estimate(grid, runs, restarted, gpus=profile.gpus > 0), restarted, profile)
            _refuse_restart_of_needed(grid, runs, plan, rerun)
            started = time.time()
            with moved_aside(plan, rerun, lambda: _submitted_since(started, grid, runs)):
                write_manifest(grid, runs, {run.spec.id: run.path for run in restarted})
                wanted = {run.spec.id for run in wanted_runs(restarted)}
                if wanted:
                    _submit(grid, runs, restarted, _without_bad_nodes(profile, plan), arguments, max_array_size())
    return _report(
        [replace(run, state="queued") if run.spec.id in wanted else run for run in restarted], wanted, arguments
    )


def _with_user_settings(profile: Profile) -> Profile:
    profile, lines = with_user_settings(profile, os.environ)
    for line in lines:
        print(line, file=sys.stderr, flush=True)
    return profile


def _without_bad_nodes(profile: Profile, plan: Sequence[PlannedRun]) -> Profile:
    bad = find_bad_nodes(attempt for run in plan for attempt in run.attempts)
    profile, line = leave_out(profile, bad)
    if line is not None:
        print(line, file=sys.stderr, flush=True)
    return profile


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt


def cancel(grid: Grid, runs: Path) -> list[str]:
    """Cancel the grid's jobs; runs that have started write a checkpoint first. Returns what was cancelled."""
    plan = disk_plan(grid, runs)
    if not open_submissions(plan, grid, runs):
        return []
    names = {relative_run_dir(run.path, runs): run.spec.name for run in plan}
    pairs = runs_and_jobs(read_all(runs, grid.dataset), cli.active())
    jobs = [(names[run], job.job) for run, job in pairs if run in names]
    cli.cancel([job for _, job in jobs])
    return [f"{name} (job {job})" for name, job in jobs]


def script(grid: Grid, runs: Path, profile: Profile) -> str:
    """The batch scripts of the job arrays that a launch would submit. Submits and writes nothing."""
    check_runs_folder(runs)
    profile = _with_user_settings(profile)
    plan, slurm_error = plan_or_disk(grid, runs)
    wanted = wanted_runs(plan)
    if not wanted:
        return "nothing to submit"
    try:
        max_tasks = cli.max_array_size()
    except SlurmError as error:  # a machine without the cluster may show the script, too
        print(f"{error}; this assumes that one job array can hold all runs", file=sys.stderr, flush=True)
        max_tasks = len(wanted)
    profile = _without_bad_nodes(profile, plan)
    arrays = _make_arrays(runs, grid, plan, profile, {} if slurm_error else queued_jobs(grid, runs), max_tasks)
    folder, code = submissions_folder(runs, grid.dataset), frozen_path(runs / CODE)
    submission = job_arrays.begin(folder, runs, grid.name, arrays, code, TRAINER, profile)
    return "\n\n".join(job_arrays.script(submission, index, array, profile) for index, array in enumerate(arrays))


def _make_arrays(
    runs: Path, grid: Grid, plan: list[PlannedRun], profile: Profile, jobs: dict[str, QueuedJob], max_tasks: int
) -> list[Array]:
    """The job arrays for the runs of `plan` to submit. jobs: the grid's in the queue; max_tasks: of one array."""
    wanted = wanted_runs(plan)
    pretrainings = plan[: len(grid.pretrainings)]
    waiting = [jobs[name].job for run in pretrainings if (name := relative_run_dir(run.path, runs)) in jobs]
    for run in pretrainings:
        if run not in wanted and run.state not in FINAL and relative_run_dir(run.path, runs) not in jobs:
            raise SlurmError(f"{run.line}; other runs start from it: launch again when it is done")
    others = [run for run in wanted if run not in pretrainings]
    return job_arrays.arrays(
        start=[relative_run_dir(run.path, runs) for run in pretrainings if run in wanted],
        runs=[relative_run_dir(run.path, runs) for run in others if run.spec.source is None],
        start_jobs=waiting,
        busy=[job.job for job in jobs.values()],
        most=max_tasks,
        cap=profile.max_parallel,
        last=[relative_run_dir(run.path, runs) for run in others if run.spec.source is not None],
    )


def _submit(
    grid: Grid, runs: Path, plan: list[PlannedRun], profile: Profile, arguments: Sequence[str], max_tasks: int
) -> None:
    """Submit the runs of `plan` that are to be launched. max_tasks: of one array."""
    arrays = _make_arrays(runs, grid, plan, profile, queued_jobs(grid, runs), max_tasks)
    for run in wanted_runs(plan):
        write_spec(run, root=str(datasets.SHAPES_ROOT))  # named: jobs run a copy of the code, in another folder
    folder, code = submissions_folder(runs, grid.dataset), freeze(runs / CODE)
    submission = job_arrays.begin(folder, runs, grid.name, arrays, code, TRAINER, profile, launch_command(arguments))
    submission.folder.mkdir(parents=True)
    submission.write()
    count = 0
    try:
        for known in job_arrays.submit(submission, arrays, profile):
            submission, array = known, arrays[count]
            what = f"{len(array.runs)} runs, {array.throttle} at a time" if len(array.runs) > 1 else array.runs[0]
            print(f"job {submission.chunks[count].job}: {what}", flush=True)
            count += 1
    except SlurmError as error:
        kept = count + isinstance(error, UnansweredError)  # the next launch looks for its name in the queue
        if not kept:
            shutil.rmtree(submission.folder)
            raise
        submission.model_copy(update={"chunks": submission.chunks[:kept]}).write()
        raise SlurmError(f"{error}; arrays that were submitted stay in the queue") from None


def _wait_for_slurm(grid: Grid, runs: Path) -> None:
    """Wait while the queue is about to change: an interrupted launch may still submit jobs, and jobs are ending."""
    said = ""
    deadline = time.monotonic() + _ENDING_S
    while (reason := _why_wait(grid, runs)) and time.monotonic() < deadline:
        if reason != said:
            print(reason, flush=True)
        said = reason
        time.sleep(1.0)


def _why_wait(grid: Grid, runs: Path) -> str:
    """What the queue is waiting for, in words; "" for nothing."""
    recent = [entry for entry in read_all(runs, grid.dataset) if entry.written >= time.time() - _SBATCH_S]
    uncertain = _uncertain_chunks(recent)
    if uncertain and not {chunk.name for chunk in uncertain} <= {job.name for job in cli.active()}:
        return f"an earlier launch was interrupted: waiting up to {_SBATCH_S:.0f} s for its jobs"
    ending = ending_jobs(grid, runs)
    if ending:
        return f"waiting up to {_ENDING_S:.0f} s for {plural('job', len(ending))} to end ({', '.join(ending[:3])})"
    return ""


def _submitted_since(started: float, grid: Grid, runs: Path) -> Collection[Path]:
    """The directories of the runs that have been submitted, or may have been, since `started` (epoch seconds)."""
    entries = [entry for entry in read_all(runs, grid.dataset) if entry.created >= started]
    chunks = [chunk for entry in entries for chunk in entry.chunks]
    uncertain = {chunk.name for chunk in _uncertain_chunks(entries)}
    if uncertain:
        try:
            uncertain &= {job.name for job in cli.active()}
        except SlurmError as error:
            print(f"{error}; runs that may have been submitted stay moved aside", flush=True)
    return {runs / run for chunk in chunks if chunk.job or chunk.name in uncertain for run in chunk.runs}


def _uncertain_chunks(submissions: Iterable[Submission]) -> list[Chunk]:
    """The job arrays that sbatch was submitting when each launch was interrupted, or got no answer."""
    unknown = ([chunk for chunk in entry.chunks if chunk.job is None] for entry in submissions)
    return [chunks[0] for chunks in unknown if chunks]  # arrays are submitted in turn


def _refuse_restart_of_needed(grid: Grid, runs: Path, plan: list[PlannedRun], rerun: str) -> None:
    """Raises SlurmError if runs in the queue may need a run that will be repeated."""
    needed = {name for run in plan for name in run.spec.needs}
    stale = [run.spec.name for run in plan if run.state == rerun and run.spec.id in needed]
    if stale and queued_jobs(grid, runs):
        raise SlurmError(
            f"rerun={rerun}: {stale[0]} is {rerun}, and runs in the queue may need it; wait for them or cancel them"
        )


def _report(plan: list[PlannedRun], wanted: Collection[str], arguments: Sequence[str]) -> int:
    """Print the states of the runs. wanted: ids of those that were submitted. Returns the exit code."""
    print(tables.counts(plan))
    if not wanted:
        given = [argument for argument in arguments if argument.startswith("cluster.")]
        unused = f"; {', '.join(given)} had no effect" if given else ""
        print(f"nothing was submitted: there is no run to launch{unused}")
    ending = [run.spec.name for run in plan if run.why == ENDING]
    if ending:
        print(f"jobs of {', '.join(ending[:3])} are still ending; launch again when they have left the queue")
    if any(run.state in ("queued", "running") for run in plan):
        print("the jobs run without this terminal; action=status shows them; launch again to submit missing runs")
    return 1 if ending or any(run.state in ("new", "failed") for run in plan) else 0

"""The states of submitted runs: those on disk, merged with Slurm's queue and accounting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn.run.files import METRICS
from experiments.config.grid import Grid
from experiments.planning.directories import Directories
from experiments.planning.run_state import FINAL, HELD, PlannedRun, stale_heartbeat_note
from slurm import cli
from slurm.cli import QueuedJob
from slurm.submission_record import Submission, jobs_by_run, last_job, read_all

ENDING = "its job is ending"
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_ENDING = "COMPLETING"
# Slurm's state at the end of a job -> the cause, as status.json has it
_CAUSES = {
    "TIMEOUT": "time-out",
    "DEADLINE": "time-out",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "OUT_OF_MEMORY": "out of memory",
    "PREEMPTED": "preempted",
}


def queued_jobs(grid: Grid, runs: Path) -> dict[str, QueuedJob]:
    """Run directory below the run folder -> its job in the queue. Raises SlurmError if Slurm does not answer."""
    submissions = read_all(runs, grid.dataset)
    return jobs_by_run(submissions, cli.active()) if submissions else {}


def ending_jobs(grid: Grid, runs: Path) -> list[str]:
    """Jobs of the grid's runs that are ending although their run is not done: cancelled, failed or requeued."""
    jobs = {name: job for name, job in queued_jobs(grid, runs).items() if job.state == _ENDING}
    if not jobs:
        return []
    paths = [Directories(runs, grid.dataset).find(spec) for spec in grid.all_runs]
    undone = {relative_run_dir(path, runs) for path in paths if not (path / METRICS).exists()}
    return [job.job for name, job in jobs.items() if name in undone]


def with_jobs(plan: list[PlannedRun], grid: Grid, runs: Path) -> list[PlannedRun]:
    """`plan`, made from disk, with the states of its jobs in Slurm. Raises SlurmError if Slurm does not answer."""
    submissions = open_submissions(plan, grid, runs)
    if not submissions:
        return plan
    active = jobs_by_run(submissions, cli.active())
    plan = [_with_job(run, active.get(relative_run_dir(run.path, runs))) for run in plan]
    return _with_ends(plan, submissions, active, runs)


def open_submissions(plan: Iterable[PlannedRun], grid: Grid, runs: Path) -> list[Submission]:
    """The submissions that contain a run of `plan` that is not done, oldest first."""
    undone = {relative_run_dir(run.path, runs) for run in plan if run.state not in FINAL}
    if not undone:
        return []
    return [
        submission
        for submission in read_all(runs, grid.dataset)
        if any(run in undone for chunk in submission.chunks for run in chunk.runs)
    ]


def relative_run_dir(path: Path, runs: Path) -> str:
    """The path of a run directory relative to the run folder, as in submission records."""
    return path.relative_to(runs).as_posix()


def _with_job(run: PlannedRun, job: QueuedJob | None) -> PlannedRun:
    """`run` in the state of its job in the queue, unless it is done or its record is corrupt."""
    if job is None or run.state in FINAL:
        return run
    run = replace(run, job=job.job, node=job.nodes or None, in_queue=True)
    if run.corrupt:
        return run
    if job.state in _WAITING:
        return replace(run, state="queued", why=_waiting(run, job), cause=None, message=None, node=None)
    unusual = "" if job.state in ("RUNNING", "CONFIGURING") else f"Slurm: {job.state.lower()}"
    unusual = ENDING if job.state == _ENDING else unusual
    return replace(run, state="running", why=unusual or _stale_heartbeat_note(run, job), cause=None, message=None)


def _waiting(run: PlannedRun, job: QueuedJob) -> str:
    """Why a job waits, and, if it is requeued, how its newest attempt ended."""
    reason = job.reason if job.reason not in ("", "None") else job.state.lower()
    if "held" in reason.lower() or job.state == "REQUEUE_HOLD":
        reason = f"{reason}: {HELD} {job.job}`"
    last = run.last_attempt
    again = last is not None and last.job == job.job and last.outcome
    return f"{reason}, after attempt {last.number}: {last.outcome}" if last and again else reason


def _stale_heartbeat_note(run: PlannedRun, job: QueuedJob) -> str:
    """The note on the heartbeat of the attempt that this job is running, if it has begun one."""
    last = run.last_attempt
    return stale_heartbeat_note(run.status) if last and last.job == job.job and last.outcome is None else ""


def _with_ends(
    plan: list[PlannedRun], submissions: list[Submission], active: dict[str, QueuedJob], runs: Path
) -> list[PlannedRun]:
    """`plan` with Slurm's account of jobs that left the queue without recording how they ended."""
    newest = last_job(submissions)
    entries = {run: entry for entry in submissions for chunk in entry.chunks if chunk.job for run in chunk.runs}
    unknown: dict[str, str] = {}
    names = [relative_run_dir(run.path, runs) for run in plan]
    for name, run in zip(names, plan, strict=True):
        if name in newest and name not in active and _has_no_end(run, newest[name], entries[name].created):
            unknown[name] = newest[name]
    if not unknown:
        return plan
    states = cli.ended(sorted(set(unknown.values())))
    outputs = {folder: _names(folder) for folder in {entries[name].folder for name in unknown}}
    started = {name for name, job in unknown.items() if f"{job}_0_log.out" in outputs[entries[name].folder]}
    return [
        _with_end(run, unknown[name], states.get(unknown[name]), name in started) if name in unknown else run
        for name, run in zip(names, plan, strict=True)
    ]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _has_no_end(run: PlannedRun, job: str, created: float) -> bool:
    """Whether the run's newest job left no record of its end: it never began, or died without writing its status."""
    if run.state == "new":
        return True
    if run.state != "failed" or run.cause not in ("killed", "interrupted"):
        return False
    last = run.last_attempt
    return last is None or last.job == job or last.started < created


def _with_end(run: PlannedRun, job: str, state: str | None, started: bool) -> PlannedRun:
    """`run` after `job` left the queue. state: Slurm's; None if it forgot the job. started: it wrote output."""
    if run.state == "new" and state == "COMPLETED":
        return run  # its directory has since been moved aside, to run again
    end = f"its state in Slurm is {state}" if state else "Slurm no longer knows how it ended"
    if run.state == "failed":
        cause, message = _CAUSES.get(state or "", "killed"), f"job {job} left the queue; {end}"
    else:
        cause, message = _CAUSES.get(state or "", "error"), f"job {job} left the queue before the run began; {end}"
        if state is None:  # Slurm immediately forgets an array task that is cancelled before it starts
            cause = "unknown" if started else "cancelled"
        elif cause == "error" and not started:
            message += "; it wrote no output: the nodes must see the run folder and the code (a shared file system)"
    return replace(run, state="failed", cause=cause, message=message, why=f"{cause}: {message}", job=job)

"""The logs of a run, and `action=logs`: the last lines of every process that failed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.rank import read_failures
from dynamic_rcnn.run.files import find_logs
from experiments.config.grid import Grid
from experiments.planning.last_rows import read_end
from experiments.planning.plan import is_submitted
from experiments.planning.run_state import PlannedRun

_TAIL_BYTES = 256 * 1024


def newest_log(run: PlannedRun) -> Path | None:
    """The log of rank 0 in the run's newest attempt; None before the first attempt."""
    last = run.last_attempt
    if last is not None and last.log is not None:
        return run.path / last.log
    logs = find_logs(run.path) if run.state == "failed" else {}  # it failed before it wrote a record
    attempts = {attempt: path for (attempt, rank), path in logs.items() if rank == 0}
    return attempts[max(attempts)] if attempts else None


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, of which only the end is read."""
    return read_end(path, _TAIL_BYTES).splitlines()[-lines:]


def all_logs(run: PlannedRun, grid: Grid, runs: Path) -> list[Path]:
    """Each log that shows how the newest attempt of a run failed, or goes on."""
    return [*_failed_logs(run), *_job_outputs([run], grid, runs).get(run.path, [])]


def print_logs(plan: Sequence[PlannedRun], grid: Grid, runs: Path, name: str | None, lines: int) -> None:
    """Print the last `lines` lines of each log that shows how the newest attempt of a run failed.

    name: the run to show, such as both/seed1; None for all that failed.
    """
    chosen = _choose_runs(plan, name)
    if not chosen:
        print("no run of this grid has failed; run=ARM/seedN shows the log of any other")
    outputs = _job_outputs(chosen, grid, runs)
    for run in chosen:
        print(run.line)
        paths = [*_failed_logs(run), *outputs.get(run.path, [])]
        if not paths:
            print("    no log: no attempt has started")
        for path in paths:
            print(f"==> {path}")
            for line in tail(path, lines):
                print(f"    {line}")


def _choose_runs(plan: Sequence[PlannedRun], name: str | None) -> list[PlannedRun]:
    if name is None:
        return [run for run in plan if run.state == "failed"]
    chosen = [run for run in plan if run.spec.name == name]
    if not chosen:
        names = [run.spec.name for run in plan]
        similar = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise UserError(f"run={name}: this grid has no such run; valid names are, for example, {', '.join(similar)}")
    return chosen


def _failed_logs(run: PlannedRun) -> list[Path]:
    """The logs of the newest attempt: of rank 0 and of the ranks that failed, or of all if no other rank failed."""
    logs = find_logs(run.path)
    newest = max((attempt for attempt, _ in logs), default=0)
    last = run.last_attempt
    token = f"{last.job}.{last.restart}" if last and last.job else None  # only known of attempts in Slurm jobs
    failures = read_failures(run.path, token)
    failed = {each.rank for each in failures if last is None or each.written >= last.started}
    ranks = sorted(rank for attempt, rank in logs if attempt == newest)
    return [logs[newest, rank] for rank in ranks if rank == 0 or rank in failed or not failed]


def _job_outputs(chosen: Sequence[PlannedRun], grid: Grid, runs: Path) -> dict[Path, list[Path]]:
    """The output files of the newest jobs of failed runs in which no trainer started."""
    failed = [run for run in chosen if run.state == "failed"]
    if not failed or not is_submitted(grid, runs):
        return {}
    from experiments.planning.slurm_state import relative_run_dir
    from slurm.submission_record import last_job, read_all

    submissions = read_all(runs, grid.dataset)
    newest = last_job(submissions)
    folders = {chunk.job: submission.folder for submission in submissions for chunk in submission.chunks}
    outputs = {}
    for run in failed:
        job = newest.get(relative_run_dir(run.path, runs))
        last = run.last_attempt
        if job is not None and not (last and last.job == job and last.log):  # without a log, srun or setup failed
            paths = sorted(folders[job.split("_")[0]].glob(f"{job}_*_log.*"))
            outputs[run.path] = [path for path in paths if path.stat().st_size]
    return outputs

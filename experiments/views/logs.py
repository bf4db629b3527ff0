"""Where the output of a run's attempts is, and `action=logs`: the last lines of every task that failed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import LOGS, read_json
from experiments.config.grid import Grid
from experiments.planning.run_state import PlannedRun
from experiments.planning.slurm_state import below
from slurm.submission_record import last_job, read_all

_TAIL_BYTES = 256 * 1024
_NAME = re.compile(r"attempt(\d+)(?:\.rank(\d+))?\.log")


def newest_log(run: PlannedRun) -> Path | None:
    """The log of the run's newest attempt (of its rank 0), as its record names it; None before the first one."""
    last = run.last_attempt
    if last is not None and last.log is not None:
        return run.path / last.log
    if run.state != "failed":
        return None
    numbers = [number for number, rank in _logs(run.path) if rank == 0]  # it ended before its record began
    return run.path / LOGS / f"attempt{max(numbers)}.log" if numbers else None


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, without reading all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def chosen(plan: Sequence[PlannedRun], name: str | None) -> list[PlannedRun]:
    """The runs of one name (both/seed1), or all that failed. Raises UserError for a name that is not in the grid."""
    if name is None:
        return [run for run in plan if run.state == "failed"]
    found = [run for run in plan if run.spec.name == name]
    if not found:
        names = [run.spec.name for run in plan]
        near = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise UserError(f"run={name}: no run of this grid; its runs are named as {', '.join(near)}")
    return found


def print_logs(plan: Sequence[PlannedRun], grid: Grid, runs: Path, name: str | None, lines: int) -> None:
    """Print, for each chosen run, the end of every log that says how its newest attempt failed."""
    wanted = chosen(plan, name)
    if not wanted:
        print("no run of this grid has failed; run=ARM/seedN shows the log of any other")
    outputs = _job_outputs(wanted, grid, runs)
    for run in wanted:
        print(f"{run.spec.name}: {run.state}{': ' + run.why if run.why else ''}")
        paths = [*failed_logs(run), *outputs.get(run.path, [])]
        if not paths:
            print("    no log: no attempt has begun")
        for path in paths:
            print(f"==> {path}")
            for line in tail(path, lines):
                print(f"    {line}")


def failed_logs(run: PlannedRun) -> list[Path]:
    """The logs of the newest attempt's tasks that failed, rank 0 first; where no other rank says so, all of them."""
    found = _logs(run.path)
    if not found:
        return []
    newest = max(number for number, _ in found)
    ranks = sorted(rank for number, rank in found if number == newest)
    failed = _failed_ranks(run)
    shown = [rank for rank in ranks if rank == 0 or not failed or rank in failed]
    return [found[newest, rank] for rank in shown]


def _logs(path: Path) -> dict[tuple[int, int], Path]:
    """(attempt, rank) -> log file."""
    names = ((_NAME.fullmatch(log.name), log) for log in (path / LOGS).glob("attempt*.log"))
    return {(int(name[1]), int(name[2] or 0)): log for name, log in names if name}


def _failed_ranks(run: PlannedRun) -> set[int]:
    """The ranks above 0 that left word of a failure in the newest attempt."""
    last = run.last_attempt
    ranks = set()
    for path in (run.path / LOGS).glob("failure.rank*.json"):
        number = re.fullmatch(r"failure\.rank(\d+)\.json", path.name)
        try:
            note = read_json(path)
        except UserError:
            continue
        newer = last is None or path.stat().st_mtime >= last.started  # a token says nothing without Slurm
        token = f"{last.job}.{last.restart}" if last and last.job else None
        if number and newer and token in (None, note.get("attempt")):
            ranks.add(int(number[1]))
    return ranks


def _job_outputs(wanted: Sequence[PlannedRun], grid: Grid, runs: Path) -> dict[Path, list[Path]]:
    """What the newest jobs of runs printed themselves, where no attempt of theirs began."""
    if not any(run.state == "failed" for run in wanted):
        return {}
    submissions = read_all(runs, grid.dataset)
    newest = last_job(submissions)
    folders = {chunk.job: submission.folder for submission in submissions for chunk in submission.chunks}
    found = {}
    for run in wanted:
        job = newest.get(below(run.path, runs))
        began = run.last_attempt is not None and run.last_attempt.job == job
        if job is not None and not began and run.state == "failed":
            paths = sorted(folders[job.split("_")[0]].glob(f"{job}_*_log.*"))
            found[run.path] = [path for path in paths if path.stat().st_size]
    return found

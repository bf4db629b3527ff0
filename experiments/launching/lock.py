"""One launcher at a time for a grid, and `action=cancel`, which stops it and its runs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import RunLockedError, is_locked, lock_holder, locked
from experiments.config.grid import Grid
from experiments.launching.local_queue import STOP_PATIENCE_S
from experiments.planning.plan import plan_or_disk

_POLL_S = 0.1


def launcher_folder(grid: Grid, runs: Path) -> Path:
    return runs / grid.dataset / f".launcher-{grid.name}-{grid.setting}"


def refuse_second(grid: Grid, runs: Path) -> None:
    """Raises UserError if a launcher is at work on this grid."""
    folder = launcher_folder(grid, runs)
    if is_locked(folder):
        holder = lock_holder(folder)
        who = f" (process {holder[1]} on {holder[0]})" if holder else ""
        raise UserError(
            f"grid={grid.name}: another launcher is at work on it{who}; action=status shows it, action=cancel stops it"
        )


@contextmanager
def launcher_lock(grid: Grid, runs: Path) -> Iterator[None]:
    """Held while launching. Raises UserError if another launcher has it."""
    folder = launcher_folder(grid, runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"runs={runs}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        with locked(folder):
            yield
    except RunLockedError:
        refuse_second(grid, runs)
        raise


def cancel(grid: Grid, runs: Path) -> list[str]:
    """Stop the grid's launcher here with its runs, then runs that go on without it; each writes a checkpoint first.

    Slurm's jobs are not looked at.

    Returns what was stopped, in words. Raises UserError for what runs elsewhere or does not stop.
    """
    stopped = []
    folder = launcher_folder(grid, runs)
    if is_locked(folder):
        stopped.append(_stop("the launcher", folder))
    for run in plan_or_disk(grid, runs)[0]:
        if run.state == "running" and not run.in_queue:
            stopped.append(_stop(run.spec.name, run.path))
    return stopped


def _stop(what: str, folder: Path) -> str:
    """Ask the process that holds the lock in `folder` to stop, and wait until it has."""
    holder = lock_holder(folder)
    if holder is None:
        if is_locked(folder):
            raise UserError(f"{folder}: {what} is running, but its process is not known; stop it by hand")
        return f"{what} (had ended)"
    host, process = holder
    if host != socket.gethostname():
        raise UserError(f"{what} runs as process {process} on {host}; cancel it there")
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return f"{what} (had ended)"
    deadline = time.monotonic() + STOP_PATIENCE_S + 10
    while lock_holder(folder) == holder:
        if time.monotonic() > deadline:
            raise UserError(f"{what} (process {process}) has not stopped; kill -9 {process} loses what it did since")
        time.sleep(_POLL_S)
    return f"{what} (process {process})"

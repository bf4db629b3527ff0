"""One launcher at a time for a grid, and `action=cancel`, which stops it and its runs."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import PATIENCE_S, LockedError, is_locked, lock_holder, locked
from experiments.config.grid import Grid
from experiments.launching.local_queue import STOP_PATIENCE_S
from experiments.planning.plan import plan_or_disk

_POLL_S = 0.1


def launcher_folder(grid: Grid, runs: Path) -> Path:
    """The folder whose lock the grid's launcher holds."""
    return runs / grid.dataset / f".launcher-{grid.name}-{grid.setting}"


@contextmanager
def launcher_lock(grid: Grid, runs: Path) -> Iterator[None]:
    """Hold the grid's launcher lock. Raises UserError if another launcher does."""
    folder = launcher_folder(grid, runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"runs={runs}: cannot be written ({error.strerror}); choose another folder") from None
    with hold_lock(folder, lambda: _second_launcher(grid, folder)):
        yield


def refuse_second_launcher(grid: Grid, runs: Path) -> None:
    """Raises UserError if a launcher of this grid is running."""
    folder = launcher_folder(grid, runs)
    if is_locked(folder):
        raise _second_launcher(grid, folder)


@contextmanager
def hold_lock(folder: Path, make_error: Callable[[], UserError], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock of a folder. Raises `make_error()` if another process holds it for longer than `patience_s`.

    A LockedError inside the block is about another lock and passes unchanged.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, patience_s))
        except LockedError:
            raise make_error() from None
        yield


def _second_launcher(grid: Grid, folder: Path) -> UserError:
    holder = lock_holder(folder)
    who = f" ({holder})" if holder else ""
    return UserError(
        f"grid={grid.name}: another launcher is running this grid{who}; action=status shows it, action=cancel stops it"
    )


def cancel(grid: Grid, runs: Path) -> list[str]:
    """Stop the grid's launcher on this machine with its runs, then runs whose launcher has died. Returns their names.

    Each run writes a checkpoint before it stops. Slurm jobs are left alone.
    """
    stopped = []
    folder = launcher_folder(grid, runs)
    if is_locked(folder):
        stopped.append(_stop_holder("the launcher", folder))
    for run in plan_or_disk(grid, runs)[0]:
        holder = lock_holder(run.path)
        if run.state == "running" and not run.in_queue and not (holder and holder.job):
            stopped.append(_stop_holder(run.spec.name, run.path))
    return stopped


def _stop_holder(what: str, folder: Path) -> str:
    """Ask the process that holds the lock of `folder` to stop, and wait until it has."""
    holder = lock_holder(folder)
    if holder is None:
        if is_locked(folder):
            raise UserError(f"{folder}: {what} is running, but its process is not known; stop it by hand")
        return f"{what} (had already ended)"
    process = holder.pid
    if holder.host != socket.gethostname():
        raise UserError(f"{what} runs as process {process} on {holder.host}; cancel it there")
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return f"{what} (had already ended)"
    deadline = time.monotonic() + STOP_PATIENCE_S + 10
    while lock_holder(folder) == holder:
        if time.monotonic() > deadline:
            raise UserError(
                f"{what} (process {process}) does not stop; kill -9 {process} ends it, and loses its work since the "
                "last checkpoint"
            )
        time.sleep(_POLL_S)
    return f"{what} (process {process})"

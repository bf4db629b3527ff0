"""Processes that work for another one, and end with it."""

from __future__ import annotations

import contextlib
import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def start_worker(worker: int | None = None) -> None:
    """Let only the end of its parent end a worker: a process that loads or draws images.

    Slurm and Ctrl-C signal it too, but its parent still needs it. A worker that outlives its parent holds the lock of
    the run.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent dies (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)

"""Signs of life of a training process: bytes on a pipe, which the process that started it watches.

`ProcessEnv.heartbeat` is the pipe's file descriptor. Without one, nobody watches and nothing happens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time

from dynamic_rcnn.run.process_env import ProcessEnv

_INTERVAL_S = 1.0

_next = 0.0


def beat() -> None:
    """Report that this process makes progress, at most once per second. Never blocks and never fails."""
    global _next
    now = time.monotonic()
    if now < _next:
        return
    _next = now + _INTERVAL_S
    pipe = _pipe()
    if pipe is not None:
        with contextlib.suppress(OSError):  # the pipe is full, or nobody reads it
            os.write(pipe, b".")


@functools.cache
def _pipe() -> int | None:
    """The file descriptor, non-blocking; None without one, or if it is not a pipe in this process."""
    pipe = ProcessEnv.from_env().heartbeat
    try:
        if pipe is None or not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return None
        os.set_blocking(pipe, False)
        return pipe
    except (OverflowError, OSError):
        return None

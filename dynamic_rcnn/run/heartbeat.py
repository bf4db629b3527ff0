"""The sign of life of a training process: bytes on the pipe that the process which started it watches.

The pipe's descriptor is in DYNAMIC_RCNN_HEARTBEAT; without it nobody watches and nothing happens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time

ENVIRONMENT = "DYNAMIC_RCNN_HEARTBEAT"
_INTERVAL_S = 1.0

_next = 0.0


def beat() -> None:
    """Say that this process is alive and gets on, at most once a second. Never waits and never fails."""
    global _next
    now = time.monotonic()
    if now < _next:
        return
    _next = now + _INTERVAL_S
    pipe = _pipe()
    if pipe is not None:
        with contextlib.suppress(OSError):  # a full pipe says enough; one that nobody reads, nothing
            os.write(pipe, b".")


@functools.cache
def _pipe() -> int | None:
    """The descriptor, non-blocking; None if there is none, or its number means something else in this process."""
    try:
        pipe = int(os.environ[ENVIRONMENT])
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return None
        os.set_blocking(pipe, False)
        return pipe
    except (KeyError, ValueError, OSError):
        return None

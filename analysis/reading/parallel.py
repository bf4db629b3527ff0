"""The same work on many items, in as many processes as this one has cores."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from dynamic_rcnn.errors import UserError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_here: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []  # in a started process: what it was started with


def in_processes(work: Callable[[_Item], _Result], items: Sequence[_Item], least: int) -> list[_Result]:
    """`work` of each item, in their order. A process gets `least` items or more; for fewer none is started.

    Processes are forked, so that neither `work` nor items need to be sent; results are. Where this process has other
    threads (a notebook) none is started either: a fork would copy the locks that they hold.

    Raises UserError if a process was killed.
    """
    workers = min(len(os.sched_getaffinity(0)), len(items) // least)
    if workers < 2 or threading.active_count() > 1:
        return [work(item) for item in items]
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _start, (work, items)) as pool:
            return list(pool.map(_work_at, range(len(items)), chunksize=max(1, least // 8)))
    except BrokenProcessPool:
        raise UserError(
            f"one of {workers} processes was killed, often by the kernel where memory runs out; on one core "
            "(taskset -c 0 python ...) none is started"
        ) from None


def _start(work: Callable[[Any], Any], items: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that waits for this one
    _here[:] = [(work, items)]


def _work_at(position: int) -> Any:
    work, items = _here[0]
    return work(items[position])

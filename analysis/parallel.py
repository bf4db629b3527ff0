"""The same work on many items, in as many processes as this one has cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_forked: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []


def in_processes(work: Callable[[_Item], _Result], items: Sequence[_Item], least: int) -> list[_Result]:
    """`work` of each item, in their order. A process gets `least` items or more; for fewer none is started.

    Processes are forked, so that neither `work` nor items need to be sent; results are.
    """
    workers = min(len(os.sched_getaffinity(0)), len(items) // least)
    if workers < 2:
        return [work(item) for item in items]
    _forked[:] = [(work, items)]
    try:
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            return list(pool.map(_work_at, range(len(items)), chunksize=max(1, least // 8)))
    finally:
        _forked.clear()


def _work_at(position: int) -> Any:
    work, items = _forked[0]
    return work(items[position])

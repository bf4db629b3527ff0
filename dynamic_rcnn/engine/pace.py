"""How fast a run trains, how long it waits for images, and how much memory it takes: for the rows of train.jsonl."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dynamic_rcnn.parallel import comm as distributed


class Pace:
    """Measures the iterations since the last row."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._restart()

    def _restart(self) -> None:
        self.started = time.perf_counter()
        self.iterations = self.images = 0
        self.waited = 0.0

    def timed(self, batches: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Yield the batches of each iteration. Measures how long they are waited for."""
        self._restart()
        source = iter(batches)
        while True:
            asked = time.perf_counter()
            found = next(source, None)
            if found is None:
                return
            self.waited += time.perf_counter() - asked
            self.iterations += 1
            self.images += sum(len(batch["inputs"]) for batch in found)
            yield found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time that the block takes."""
        began = time.perf_counter()
        yield
        self.started += time.perf_counter() - began

    def row(self) -> dict[str, float] | None:
        """The measurements of all processes since the last row, see `run.train_log`. None on all ranks but 0."""
        elapsed = time.perf_counter() - self.started
        own = (elapsed / self.iterations, self.waited / self.iterations, self.images / elapsed, self._peak_bytes())
        found = distributed.gather(own)
        self._restart()
        if found is None:
            return None
        seconds, waits, rates, peaks = zip(*found, strict=True)
        slowest = {"seconds": max(seconds), "data_seconds": max(waits)}
        return slowest | {"images_per_second": sum(rates), "peak_bytes": max(peaks)}

    def _peak_bytes(self) -> int:
        """The most memory that this process has had so far: on its GPU, or without one its resident set."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

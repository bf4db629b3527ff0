"""The signals that ask a run to stop: noted for the end of the iteration while it trains, an end at once elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dynamic_rcnn.errors import InterruptedRunError


class StopSignal:
    """SIGTERM and SIGINT of this process, and what they do: at first, an end at the next `check`."""

    def __init__(self) -> None:
        self.received = False
        self._where: str | None = "while it was starting"
        self._at_once = False  # an exception in the midst of importing torch would leave half of it

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise InterruptedRunError if a signal has come, unless signals are only noted."""
        if self.received and self._where is not None:
            raise InterruptedRunError(f"stopped by a signal {self._where}")

    def only_note(self) -> None:
        """From here on a signal raises nothing, and nor does `check`; `received` tells of it."""
        self._where, self._at_once = None, False

    @contextmanager
    def at_once(self, where: str) -> Iterator[None]:
        """A signal, also one that was noted before, raises InterruptedRunError in here, saying `where`."""
        self._where, self._at_once = where, True
        try:
            self.check()
            yield
            self.check()  # libraries swallow exceptions
        finally:
            self.only_note()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received, True
        if self._at_once and not again:  # a further one must not disturb the clearing up after the first
            self.check()


def ignore_signals(worker: int) -> None:
    """For processes that load images: Slurm and Ctrl-C signal them as well, and their parent still needs them."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

"""The signals that ask a run to stop: at the end of the iteration during training, at once elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dynamic_rcnn.errors import InterruptedRunError


class StopSignal:
    """Handles SIGTERM and SIGINT of this process. At first they take effect at the next `check`."""

    def __init__(self) -> None:
        self.received = False
        self._where: str | None = "while it was starting"
        self._at_once = False  # an exception while torch is imported would leave it half imported

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def check(self) -> None:
        """Raise InterruptedRunError if a signal has arrived, unless signals are only noted."""
        if self.received and self._where is not None:
            raise InterruptedRunError(f"stopped by a signal {self._where}")

    def only_note(self) -> None:
        """From now on neither a signal nor `check` raises; signals only set `received`."""
        self._where, self._at_once = None, False

    @contextmanager
    def at_once(self, where: str) -> Iterator[None]:
        """Inside the block a signal, even an earlier one, raises InterruptedRunError. where: part of its message."""
        self._where, self._at_once = where, True
        try:
            self.check()
            yield
            self.check()  # a library may have swallowed the exception
        finally:
            self.only_note()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received, True
        if self._at_once and not again:  # a second signal must not disturb the cleanup after the first
            self.check()

"""Output that may go away: when its terminal or the reader of its pipe is gone, a launch continues as under nohup."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from dynamic_rcnn import cli


@contextmanager
def output_may_close() -> Iterator[None]:
    """Inside the block, drop output that can no longer be written, and do not end on SIGHUP."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _ClosableStream(stream)) for stream in streams)
    try:
        with cli.handle_signals([signal.SIGHUP], lambda number: None):
            yield
    finally:
        sys.stdout, sys.stderr = streams


class _ClosableStream:
    """A text stream that writes to /dev/null once its file cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)
        if self._stream is not sys.__stderr__:
            print(f"the output cannot be written ({error.strerror}); the launch continues without it", file=sys.stderr)

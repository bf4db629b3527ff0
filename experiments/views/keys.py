"""The keys that are pressed on a terminal."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SEQUENCE = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Za-z]|.", re.DOTALL)  # a key with a sequence, or one byte
_NAMES = {
    **{b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down"},
    **{b"\x1b[5~": "page up", b"\x1b[6~": "page down"},
    **{b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home", b"g": "home"},
    **{b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end", b"G": "end"},
    b"\x1b": "escape",
}


@contextmanager
def pressed_keys() -> Iterator[Callable[[float], list[str]]]:
    """Yield a function that waits for keys for at most so many seconds and returns their names.

    Inside the block, keys arrive at once and are not shown, Ctrl-Z does nothing, and Ctrl-C is a signal as always.
    """
    terminal = sys.stdin.fileno()
    before, mode = termios.tcgetattr(terminal), termios.tcgetattr(terminal)
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    mode[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(terminal, termios.TCSANOW, mode)
    try:
        yield lambda seconds: _read(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _read(terminal: int, seconds: float) -> list[str]:
    if not select.select([terminal], [], [], seconds)[0]:
        return []
    return names(os.read(terminal, 1024)) or ["q"]  # nothing to read: the input has ended


def names(pressed: bytes) -> list[str]:
    """The names of keys, from what a terminal sends: up, page down, escape and so on, or the character."""
    return [_NAMES.get(key, key.decode(errors="replace")) for key in _SEQUENCE.findall(pressed)]

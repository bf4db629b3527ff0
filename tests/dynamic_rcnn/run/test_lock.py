"""Locks, held by real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamic_rcnn.run.lock import Holder, LockedError, is_locked, lock_holder, locked

HOLD = """
import sys
from pathlib import Path
from dynamic_rcnn.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_is_refused_while_another_process_holds_it(tmp_path: Path) -> None:
    with lock_held_by_another_process(tmp_path) as process:
        refused = pytest.raises(LockedError, match=rf": locked by process {process.pid} on ")
        with refused, locked(tmp_path, patience_s=0.1):
            pass
    with locked(tmp_path):
        assert is_locked(tmp_path)
        assert lock_holder(tmp_path) == Holder.this_process()
    assert not is_locked(tmp_path)

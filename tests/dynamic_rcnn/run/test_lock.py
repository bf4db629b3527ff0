"""Locks, held by real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamic_rcnn.run import lease
from dynamic_rcnn.run.lock import Holder, LockedError, is_locked, lock_holder, locked

HOLD = """
import fcntl, sys
from pathlib import Path
from dynamic_rcnn.run.lock import locked
number = int(sys.argv[2])
def no_flock(file, operation):
    raise OSError(number, "no flock")
if number:
    fcntl.flock = no_flock
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def lock_held_by_another_process(folder: Path, number: int = 0) -> Iterator[subprocess.Popen[str]]:
    """number: the error of flock; 0 if it works."""
    command = [sys.executable, "-c", HOLD, str(folder), str(number)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def break_flock(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_flock(file: object, operation: int) -> None:
        raise OSError(number, "no flock")

    monkeypatch.setattr(fcntl, "flock", no_flock)


@pytest.mark.parametrize("number", [0, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_lock_is_refused_while_another_process_holds_it(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number:
        break_flock(monkeypatch, number)
    with lock_held_by_another_process(tmp_path, number) as process:
        assert is_locked(tmp_path)
        refused = pytest.raises(LockedError, match=rf": locked by process {process.pid} on ")
        with refused, locked(tmp_path, patience_s=0.1):
            pass
    assert not is_locked(tmp_path)  # it was killed
    with locked(tmp_path):
        assert is_locked(tmp_path)
        assert lock_holder(tmp_path) == Holder.this_process()
    assert not is_locked(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_lease_of_another_machine_is_held_until_its_owner_stops_touching_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_flock(monkeypatch, errno.ENOLCK)
    (tmp_path / "lock").touch()
    (tmp_path / lease.HELD).write_text("another-machine/pid:[1] 12 34")
    assert is_locked(tmp_path)
    long_ago = time.time() - lease.DEAD_S - 1
    os.utime(tmp_path / lease.HELD, (long_ago, long_ago))
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)


def test_a_lease_that_another_process_removed_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that found an older lease dead may remove a new one: its owner notices before it begins."""

    def remove(seconds: float) -> None:
        (tmp_path / lease.HELD).unlink()

    monkeypatch.setattr(lease.time, "sleep", remove)
    assert lease.take_lease(tmp_path) is None


def test_an_owner_touches_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_TOUCH_S", 0.01)
    held = lease.take_lease(tmp_path)
    assert held is not None
    os.utime(tmp_path / lease.HELD, (0, 0))
    deadline = time.monotonic() + 60
    while (tmp_path / lease.HELD).stat().st_mtime < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.release()
    assert not (tmp_path / lease.HELD).exists()


def test_other_errors_of_flock_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_flock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="no flock"), locked(tmp_path):
        pass

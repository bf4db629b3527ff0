"""File locks: one process at a time in a folder. The kernel frees a lock however its process ends.

A file system without flock gets a lease instead (see `lease`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import LOCK
from dynamic_rcnn.run.lease import Lease, is_leased, take_lease

PATIENCE_S = 2.0
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class LockedError(UserError):
    """Another process holds the lock."""


class RunLockedError(LockedError):
    """Another process is training this run."""


@dataclass(frozen=True)
class Holder:
    """The owner of a lock. job, restart: Slurm's, if the owner runs in a job ("123_4", 0)."""

    host: str
    pid: int
    job: str | None = None
    restart: int = 0

    @classmethod
    def this_process(cls, job: str | None = None, restart: int = 0) -> Holder:
        return cls(socket.gethostname(), os.getpid(), job, restart)

    @property
    def attempt(self) -> tuple[str, int] | None:
        """Identifies a start of a Slurm job; None without Slurm."""
        return (self.job, self.restart) if self.job else None

    def to_line(self) -> str:
        return f"{self.host} {self.pid} {self.job or '-'} {self.restart}\n"

    @classmethod
    def from_line(cls, text: str) -> Holder | None:
        """Parse a lock's content. Returns None if it is empty: the last owner released it."""
        words = text.split()
        if len(words) < 2 or not words[1].isdigit():
            return None
        job = words[2] if len(words) == 4 and words[2] != "-" else None
        return cls(words[0], int(words[1]), job, int(words[3]) if len(words) == 4 and words[3].isdigit() else 0)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", job {self.job}" if self.job else "")


class LockFile(io.FileIO):
    """An open lock file. Closing it frees the lock, unless a child process has inherited it."""

    lease: Lease | None = None

    @property
    def folder(self) -> Path:
        return Path(str(self.name)).parent

    def close(self) -> None:
        if self.lease is not None:
            self.lease.release()
        super().close()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock now."""
    try:
        file = LockFile(folder / LOCK, "rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            _check_unsupported(error)
            return is_leased(folder)
    return False


def _check_unsupported(error: OSError) -> None:
    """Raise errors of flock that do not mean that the file system has none."""
    if error.errno not in _NO_FLOCK:
        raise error


def lock_holder(folder: Path) -> Holder | None:
    """The process that holds the folder's lock now. Returns None if nobody does, or the holder is not known."""
    return last_holder(folder) if is_locked(folder) else None


def last_holder(folder: Path) -> Holder | None:
    """The last owner that did not release the lock cleanly. It may be dead."""
    try:
        return Holder.from_line((folder / LOCK).read_text(errors="replace"))
    except FileNotFoundError:
        return None


@contextmanager
def locked(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the folder's lock. Raises LockedError if another process still holds it after `patience_s` seconds."""
    with open_lock(folder) as file:
        if not take(file, patience_s):
            raise LockedError(f"{folder}: locked by {lock_holder(folder) or 'another process'}")
        write_holder(file, Holder.this_process().to_line())
        yield


def open_lock(folder: Path) -> LockFile:
    """Open the folder's lock file, to be passed to `take`."""
    return LockFile(folder / LOCK, "ab")


def take(file: LockFile, patience_s: float) -> bool:
    """Take the lock of an open file. Returns False if another process still holds it after `patience_s` seconds.

    Readers of the state hold the lock for an instant, so `patience_s` should not be 0.
    """
    deadline = time.monotonic() + patience_s
    while not _try_to_take(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _try_to_take(file: LockFile) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        _check_unsupported(error)
        file.lease = file.lease or take_lease(file.folder)
        return file.lease is not None


def write_holder(file: LockFile, text: str) -> None:
    """Replace the content of a lock file that this process holds."""
    with contextlib.suppress(OSError):  # a full disk does not affect the lock
        file.truncate(0)
        file.write(text.encode())

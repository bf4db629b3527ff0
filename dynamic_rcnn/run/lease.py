"""A lock for file systems without flock, such as some mounts of NFS and Lustre: a file that its owner keeps touching.

On the owner's machine the lock is free as soon as its process has ended. Other machines only see when the file was
touched last: there it is free `DEAD_S` seconds after its owner died.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

HELD = "lock.held"
DEAD_S = 120.0
_TOUCH_S = 10.0
_SETTLE_S = 0.5  # longer than it takes to remove a lease after finding it dead


class Lease:
    """A lease that this process holds, until `release`."""

    def __init__(self, folder: int, file: int) -> None:
        self._folder, self._file, self._owner = folder, file, os.getpid()
        self._released = threading.Event()
        threading.Thread(target=self._touch, daemon=True).start()

    def _touch(self) -> None:
        while not self._released.wait(_TOUCH_S):
            with contextlib.suppress(OSError):  # the file server does not answer; the next one may succeed
                os.utime(self._file)

    def release(self) -> None:
        """Free the lock. Does nothing in a forked process, which does not own it."""
        if os.getpid() == self._owner and not self._released.is_set():
            self._released.set()
            if _is_ours(self._folder, self._file):
                os.unlink(HELD, dir_fd=self._folder)
            os.close(self._folder)
            os.close(self._file)


def take_lease(folder: Path) -> Lease | None:
    """Take the lease of a folder. Returns None if another process holds it."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if (folder / HELD).exists() and not is_leased(folder):
            aside = f"{HELD}.{os.getpid()}.tmp"  # rename first: of several processes, only one succeeds
            os.rename(HELD, aside, src_dir_fd=directory, dst_dir_fd=directory)
            os.unlink(aside, dir_fd=directory)
        file = os.open(HELD, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=directory)
    except (FileExistsError, FileNotFoundError):
        os.close(directory)
        return None
    os.write(file, _owner(os.getpid()).encode())
    time.sleep(_SETTLE_S)  # another process that found the previous lease dead may be about to remove this one
    if _is_ours(directory, file):
        return Lease(directory, file)
    os.close(directory)
    os.close(file)
    return None


def is_leased(folder: Path) -> bool:
    """Whether a process holds the lease of a folder."""
    try:
        with (folder / HELD).open("rb") as file:  # opened, so that an NFS client asks the server for its time
            age, owner = time.time() - os.fstat(file.fileno()).st_mtime, file.read().decode(errors="replace")
    except FileNotFoundError:
        return False
    machine, _, process = owner.partition(" ")
    if machine == _machine():
        return owner == _owner(int(process.split()[0]))
    return age < DEAD_S


def _is_ours(folder: int, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(HELD, dir_fd=folder), os.fstat(file))
    except OSError:
        return False


def _machine() -> str:
    """Identifies this start of this machine, and the processes that see each other's ids on it."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{Path('/proc/self/ns/pid').readlink()}"


def _owner(process: int) -> str:
    """Identifies a process of this machine: its id and start time, since ids are used again."""
    try:
        started = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = "ended"
    return f"{_machine()} {process} {started}"

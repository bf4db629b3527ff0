"""The claim on a run: one process (with its children) works on it, even if a copy that Slurm gave up still runs.

The owner of a run's claim has the run directory as working directory and writes by relative paths. If an earlier copy
may still be running (its node lost contact, and Slurm started the job again elsewhere), the successor does not share a
directory with it: it copies the content into a new directory and swaps the two. The old copy continues to write into
the directory that was moved aside (`seed0-<id>.lost1`), so it cannot overwrite what its successor writes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dynamic_rcnn.run.files import CHECKPOINTS, LOCK, RENDEZVOUS, free_name
from dynamic_rcnn.run.lease import HELD
from dynamic_rcnn.run.lock import (
    PATIENCE_S,
    Holder,
    LockFile,
    RunLockedError,
    last_holder,
    open_lock,
    take,
    write_holder,
)

_INSTANT_S = 0.3  # a reader of the state may hold the lock for this long
_NOT_COPIED = (LOCK, HELD, RENDEZVOUS)


@dataclass(frozen=True)
class Claim:
    """A claim that this process holds. lock: file descriptor, inherited by children. note: on a takeover, or ""."""

    lock: int
    note: str | None


@contextmanager
def claimed(
    run_dir: Path,
    me: Holder | None = None,
    alive: Callable[[Holder], bool | None] = lambda holder: None,
    patience_s: float = PATIENCE_S,
) -> Iterator[Claim]:
    """Hold the run's claim, with the run directory as working directory.

    alive: whether a holder that did not release its claim may continue. None if it is not known: then a holder that has
    the lock may, and one on another host without the lock may not. Raises RunLockedError if another process trains the
    run, also after `patience_s` seconds.
    """
    me = me or Holder.this_process()
    path, home = run_dir.resolve(), Path.cwd()
    finish_swap(path)
    os.chdir(path)
    file = open_lock(Path())
    try:
        held, holder = _take(file, _INSTANT_S)
        if held and not (holder and holder.attempt != me.attempt and alive(holder) is False):
            held, holder = _take(file, patience_s)
        note = None
        if held or _may_be_alive(holder, me):
            living = alive(holder) if holder else None
            if living or (living is None and held):
                raise RunLockedError(f"{run_dir}: another process is training this run ({holder or 'unknown'})")
            aside = _swap(path)
            note = f"took over from {holder}, which may still have been running; its directory is now {aside.name}"
            os.chdir(path)
            file.close()
            file = open_lock(Path())
            held, _ = _take(file, patience_s)
        if held or is_superseded(path):
            raise RunLockedError(f"{run_dir}: another attempt has taken over this run")
        write_holder(file, me.to_line())
        try:
            yield Claim(file.fileno(), note)
        finally:
            write_holder(file, "")
    finally:
        file.close()
        os.chdir(home)


def is_superseded(path: Path) -> bool:
    """Whether another attempt has taken over the run whose directory was `path` when this process started."""
    try:
        return not path.samefile(".")
    except FileNotFoundError:
        return True


def _take(file: LockFile, patience_s: float) -> tuple[bool, Holder | None]:
    """Take the lock. Returns whether another process holds it, and the last holder."""
    return not take(file, patience_s), last_holder(Path())


def _may_be_alive(holder: Holder | None, me: Holder) -> bool:
    """Whether a holder without the lock may be alive: not every file system shows locks to other hosts."""
    if holder is None or (holder.attempt is not None and holder.attempt == me.attempt):
        return False
    return holder.host != me.host


def _swap(path: Path) -> Path:
    """Replace the run directory by a copy. Returns the new path of the old one."""
    aside, new = free_name(path, "lost"), _next(path)
    shutil.rmtree(new, ignore_errors=True)
    copy_run(path, new)
    path.rename(aside)
    new.rename(path)
    for checkpoint in (aside / CHECKPOINTS).glob("*.pth"):  # the copy has them
        checkpoint.unlink(missing_ok=True)
    return aside


def finish_swap(path: Path) -> None:
    """Put the copy of a run directory into place, if a process was killed between the two renames of a swap."""
    if not path.exists() and _next(path).exists():
        _next(path).rename(path)


def _next(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


def copy_run(source: Path, target: Path) -> None:
    """Copy the complete files of a run directory. Checkpoints, which never change, are linked if possible."""
    for folder, _, names in os.walk(source):
        to = target / Path(folder).relative_to(source)
        to.mkdir()
        for name in names:
            if not name.endswith(".tmp") and name not in _NOT_COPIED:
                with contextlib.suppress(FileNotFoundError):  # the old copy may remove files meanwhile
                    _link_or_copy(Path(folder) / name, to / name)


def _link_or_copy(source: Path, target: Path) -> None:
    if source.suffix == ".pth":
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)

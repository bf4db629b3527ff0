"""Copies of data sets on a disk of the node, which all processes of the node share, also those of other runs.

DIR/dynamic_rcnn.<user id>/
    lock          held while a copy is looked for, made or removed
    <key>/        a copy: annotations and images at the paths that they have below dataset.root
    <key>.json    what the copy consists of; without this file, the copy is not complete
    <key>.use     locked by the processes that read the copy; its modification time is that of the last use
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from dynamic_rcnn.data.annotations import read_images
from dynamic_rcnn.data.dataset import PATHS, PreparedData, content_digest
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import FileContent, read_content, write_content
from dynamic_rcnn.run.lock import open_lock, take
from dynamic_rcnn.run.spec import digest

_THREADS = 8  # that copy in parallel, because a network file system answers late
_BLOCK = 4096  # of a file system, in bytes
_in_use: list[IO[bytes]] = []  # the locks of the copies that this process reads, held until it ends


class StagedCopy(FileContent):
    """The content of <key>.json. size: of all files, in bytes."""

    source: str
    files: int
    size: int


def stage(data: PreparedData, dataset: dict[str, Any], tick: Callable[[], None]) -> PreparedData:
    """Copy a data set to `dataset["stage"]`, unless a complete copy is there. Does nothing without that field.

    Args:
        data: the data set as `dataset.prepare` found it.
        dataset: `dataset` of a spec.
        tick: called often. It may raise; what was copied is then removed by the next call.

    Returns:
        The copy.

    Raises:
        UserError: the copy does not fit, or a file cannot be read or written.
    """
    if dataset.get("stage") is None:
        return data
    folder = expand(dataset["stage"]) / f"dynamic_rcnn.{os.getuid()}"
    copy = folder / digest([data.fingerprint, str(data.root.resolve()), *(dataset[name] for name in PATHS)])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open_lock(folder) as lock:
            while not take(lock, patience_s=1.0):
                tick()
            found = PreparedData(copy, data.fingerprint)
            if not _is_complete(found, dataset):
                _make(found, data.root, dataset, tick)
            _use(copy)
    except OSError as error:
        fault = f"{error.filename or folder}: {error.strerror or error}"
        raise UserError(f"dataset.stage={dataset['stage']}: {fault}; choose another folder, or null") from error
    return found


def expand(folder: str) -> Path:
    """The folder on this machine. Raises UserError for a variable that is not set here."""
    text = os.path.expandvars(folder)
    if missing := re.search(r"\$\{?\w+", text):
        raise UserError(f"dataset.stage={folder}: {missing[0]} is not set on {socket.gethostname()}; choose another")
    if not Path(text).is_absolute():
        raise UserError(f"dataset.stage={folder}: is {text!r} on {socket.gethostname()}; must be an absolute path")
    return Path(text)


def _is_complete(found: PreparedData, dataset: dict[str, Any]) -> bool:
    """Whether a copy has the files that it should have, by number and size, and the annotations by content."""
    try:
        record = read_content(StagedCopy, _record(found.root))
        sizes = [file.stat().st_size for file in _walk(found.root)]
        known = (len(sizes), sum(sizes)) == (record.files, record.size)
        return known and content_digest(found.root, dataset) == found.fingerprint
    except UserError:
        return False


def _make(found: PreparedData, source: Path, dataset: dict[str, Any], tick: Callable[[], None]) -> None:
    """Make a complete copy. The caller holds the lock."""
    copy, started = found.root, time.monotonic()
    files = _list_files(source, dataset)
    _remove(copy)
    _make_room(copy.parent, sum(-(-size // _BLOCK) * _BLOCK for size in files.values()))
    print(f"copying {len(files):,} files ({_gigabytes(sum(files.values()))}) to {copy}", flush=True)
    for parent in {(copy / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for _ in pool.map(lambda name: shutil.copyfile(source / name, copy / name), files):
            tick()
    except BaseException:
        pool.shutdown(cancel_futures=True)
        _remove(copy)
        raise
    pool.shutdown()
    record = StagedCopy(source=str(source), files=len(files), size=sum(files.values()))
    write_content(_record(copy), record)
    if not _is_complete(found, dataset):
        _remove(copy)
        raise UserError(f"{source}: changed while it was copied to dataset.stage={dataset['stage']}; launch again")
    print(f"copied in {time.monotonic() - started:.0f} s", flush=True)


def _list_files(source: Path, dataset: dict[str, Any]) -> dict[str, int]:
    """The annotation files and the images that they name: path below `source` -> size in bytes."""
    splits = [(dataset[f"{split}_ann"], dataset[f"{split}_img"]) for split in ("train", "val")]
    if "recipe" in dataset:  # the fingerprint of drawn images is that of all splits
        drawn = sorted((source / "annotations").glob("*.json"))
        splits = [(path.relative_to(source).as_posix(), path.stem) for path in drawn]
    names: dict[str, None] = {}
    for file, folder in splits:
        images = read_images(source / file)
        names |= dict.fromkeys([file, *(f"{folder}/{image.file_name}" for image in images)])
    outside = [name for name in names if os.path.normpath(name).startswith(("..", "/"))]
    if outside:
        raise UserError(f"dataset.stage={dataset['stage']}: {outside[0]} is not below {source}; set dataset.stage=null")
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: (source / name).stat().st_size, names), strict=True))


def _make_room(folder: Path, need: int) -> None:
    """Remove what killed processes left, and the copies that were not used for the longest, until `need` bytes fit.

    Copies that a process reads stay. Raises UserError, and removes no copy, if `need` does not fit anyway.
    """
    for leftover in folder.iterdir():
        if leftover.is_dir() and not _record(leftover).exists():
            _remove(leftover)
    idle = sorted(filter(_is_idle, map(_copy, folder.glob("*.json"))), key=_last_use)
    free = shutil.disk_usage(folder).free
    if free + sum(file.stat().st_size for copy in idle for file in _walk(copy)) < need:
        raise UserError(
            f"dataset.stage: {folder} has {_gigabytes(free)} free on {socket.gethostname()}, the data set needs "
            f"{_gigabytes(need)}, and removing copies that no run uses is not enough; choose another folder, or null"
        )
    for copy in idle:
        if shutil.disk_usage(folder).free >= need:
            return
        print(f"removing the copy {copy}, which no run uses", flush=True)
        _remove(copy)


def _remove(copy: Path) -> None:
    """Remove a copy. Its record goes first, so that the rest is never taken for complete."""
    _record(copy).unlink(missing_ok=True)
    if copy.exists():
        shutil.rmtree(copy)
    _use_file(copy).unlink(missing_ok=True)


def _use(copy: Path) -> None:
    """Mark a copy as used by this process until it ends."""
    file = _use_file(copy).open("ab")
    os.utime(file.fileno())
    with contextlib.suppress(OSError):  # a file system without flock; there no copy is ever removed
        fcntl.flock(file, fcntl.LOCK_SH)
    _in_use.append(file)


def _is_idle(copy: Path) -> bool:
    """Whether no process reads a copy."""
    with _use_file(copy).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _last_use(copy: Path) -> float:
    return _use_file(copy).stat().st_mtime


def _walk(copy: Path) -> Iterator[Path]:
    return (Path(folder) / name for folder, _, names in os.walk(copy) for name in names)


def _record(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.json")


def _use_file(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.use")


def _copy(record: Path) -> Path:
    return record.with_suffix("")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

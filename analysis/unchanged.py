"""Whether a report was made of what is there now, so that making it again would give the same bytes.

Beside a report's figures lies a hidden file, `.made_of.json`: what the report was made of, and the digest of each file
that was written. Nothing but time depends on it; it can be deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.digest import file_digest
from dynamic_rcnn.run.directory import CHECKPOINTS, LOGS, SCHEMA, read_json, write_json_atomic

NAME = ".made_of.json"
_CODE = ("analysis/**/*", "dynamic_rcnn/*", "dynamic_rcnn/run/**/*")
RUN_DEPTH = 3  # of what lies in a run directory
_LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib", "jinja2", "markdown-it-py")


def inputs(runs: Path) -> str:
    """A digest of all that a report of `runs` depends on: size and times of each file there, the code, libraries."""
    digest = hashlib.sha256(str([f"{name} {version(name)}" for name in _LIBRARIES]).encode())
    for pattern in _CODE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and path.suffix in (".py", ".j2", ".css", ".js"):
                digest.update(path.read_bytes())
    for line in sorted(_files(runs, "")):
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def is_made_of(marker: Path, made_of: str) -> bool:
    """Whether the report beside `marker` was made of `made_of`, and is as it was written."""
    try:
        value = read_json(marker)
    except UserError:
        return False
    files = value.get("files")
    if value.get("made_of") != made_of or not isinstance(files, dict) or not files:
        return False
    places = ((marker.parent / name, digest) for name, digest in files.items())
    return all(path.is_file() and file_digest(path) == digest for path, digest in places)


def files_of(marker: Path) -> set[Path]:
    """The files that were written with the report beside `marker`; none where it does not say."""
    try:
        files = read_json(marker).get("files")
    except UserError:
        return set()
    return {Path(os.path.normpath(marker.parent / name)) for name in files} if isinstance(files, dict) else set()


def remember(marker: Path, made_of: str | None, written: Iterable[Path]) -> None:
    """Write down what the files `written` were made of; None: of what may change without a trace."""
    files = {os.path.relpath(path, marker.parent): file_digest(path) for path in written}
    write_json_atomic(marker, {"schema": SCHEMA, "made_of": made_of, "files": files})


def _files(folder: Path, below: str) -> Iterator[str]:
    """A line a file: its path, size and times of change; a line a folder: an empty one may be a run.

    Left out is what no report reads: hidden names (so are those of files that are being written), and the checkpoints
    and logs of runs.
    """
    depth = below.count("/")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.name.startswith(".") or (depth == RUN_DEPTH and entry.name in (CHECKPOINTS, LOGS)):
                continue
            with suppress(OSError):  # it has just gone, cannot be read, or is a link to nothing
                if entry.is_dir(follow_symlinks=depth < RUN_DEPTH):
                    yield f"{name}/\n"
                    yield from _files(Path(entry.path), f"{name}/")
                else:
                    found = entry.stat()
                    yield f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"

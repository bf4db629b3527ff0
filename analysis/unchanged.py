"""Whether a report was made of what is there now, so that making it again would give the same bytes.

Beside a report's figures lies a hidden file, `.made_of.json`: what the report was made of, and the digest of each file
that was written. Nothing but time depends on it; it can be deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from analysis.command import ROOT
from dynamic_rcnn.digest import file_digest
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import CHECKPOINTS, LOGS, SCHEMA, read_json, write_json_atomic

NAME = ".made_of.json"
_CODE = ("analysis/**/*", "dynamic_rcnn/*", "dynamic_rcnn/run/**/*")
_LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib", "jinja2", "markdown-it-py")


def inputs(runs: Path) -> str:
    """A digest of all that a report of `runs` depends on: size and time of each file there, the code, libraries."""
    digest = hashlib.sha256(str([f"{name} {version(name)}" for name in _LIBRARIES]).encode())
    for pattern in _CODE:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and path.suffix in (".py", ".j2", ".css", ".js"):
                digest.update(path.read_bytes())
    for line in sorted(_files(runs, "")):
        digest.update(line.encode())
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
    return all(path.is_file() and file_digest(path) == digest for path, digest in _placed(marker, files))


def remember(marker: Path, made_of: str, written: Iterable[Path]) -> None:
    """Write down what the files `written` were made of."""
    files = {os.path.relpath(path, marker.parent): file_digest(path) for path in written}
    write_json_atomic(marker, {"schema": SCHEMA, "made_of": made_of, "files": files})


def _placed(marker: Path, files: dict[str, str]) -> list[tuple[Path, str]]:
    return [(marker.parent / name, digest) for name, digest in files.items()]


def _files(folder: Path, below: str) -> Iterator[str]:
    """A line a file: its path, size and time of change; a line a folder: an empty one may be a run.

    What is in checkpoints and logs is left out: no report reads it.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.is_dir():
                yield f"{name}/\n"
                if entry.name not in (CHECKPOINTS, LOGS):
                    yield from _files(Path(entry.path), f"{name}/")
            else:
                found = entry.stat()
                yield f"{name} {found.st_size} {found.st_mtime_ns}\n"

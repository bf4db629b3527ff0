"""Freezes the code: jobs run the code that was submitted, whatever is edited while they wait."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from dynamic_rcnn import PROJECT
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.files import write_content

PACKAGES = ("dynamic_rcnn", "slurm")
_SUFFIXES = (".py", ".yaml")


def freeze(folder: Path) -> Path:
    """Copy the packages that jobs run into `folder`, under the digest of their content, unless the copy exists."""
    frozen = frozen_path(folder)
    if frozen.exists():
        return frozen
    temporary = frozen.with_name(f".{frozen.name}.{os.getpid()}.tmp")
    for path in _files():
        target = temporary / path.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    write_content(temporary / provenance.FROZEN.name, provenance.checkout())
    try:
        temporary.rename(frozen)
    except OSError:  # another launcher made the same copy first
        shutil.rmtree(temporary)
        if not frozen.exists():
            raise
    return frozen


def frozen_path(folder: Path) -> Path:
    """The path of the copy that `freeze` makes."""
    total = hashlib.sha256()
    for path in _files():
        total.update(f"{path.relative_to(PROJECT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return folder / total.hexdigest()[:12]


def _files() -> list[Path]:
    code = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*"))]
    lock = PROJECT / provenance.REQUIREMENTS_LOCK.name
    return [path for path in code if path.suffix in _SUFFIXES and path.is_file()] + ([lock] if lock.exists() else [])

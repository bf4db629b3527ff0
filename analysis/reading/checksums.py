"""SHA256SUMS of committed records: the digest of every file, in the format of `sha256sum -c`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from analysis.reading.run import RECORD_FILES
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import file_digest, read_text
from dynamic_rcnn.wording import plural

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_UNCHECKED = "so no file is checked; python analysis/records.py writes it again"


def write(folder: Path) -> None:
    """Write the SHA256SUMS of a folder, sorted by path."""
    lines = [f"{file_digest(folder / file)}  {file}\n" for file in sorted(_files(folder))]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def check(path: Path) -> dict[str, str]:
    """Compare a folder with its SHA256SUMS. Returns file -> fault. Ignores hidden files, which nothing reads.

    Raises UserError if SHA256SUMS is damaged.
    """
    folder, listed = path.parent, _read(path)
    faults = {file: fault for file, digest in listed.items() if (fault := _fault(folder / file, digest))}
    faults |= {file: f"not listed in {NAME}" for file in _files(folder) - set(listed)}
    return dict(sorted(faults.items()))


def require(folder: Path) -> None:
    """Raises UserError if `folder` contradicts its SHA256SUMS: a copy would hide that."""
    faults = check(folder / NAME) if (folder / NAME).exists() else {}
    if faults:
        file, fault = next(iter(faults.items()))
        raise UserError(f"{folder / file}: {fault} ({plural('such file', len(faults))}); restore the recorded file")


def spoiled_runs(faults: dict[str, str]) -> set[str]:
    """The run directories in which a file that the report reads is not the recorded one."""
    parts = [file.split("/") for file, fault in faults.items() if not fault.startswith("not listed")]
    parts += [file.split("/") for file in faults if file.rsplit("/", 1)[-1] in RECORD_FILES]
    return {"/".join(part[:3]) for part in parts if len(part) > 3}


def _read(path: Path) -> dict[str, str]:
    """File -> digest."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error.__class__.__name__}), {_UNCHECKED}") from None
    listed: dict[str, str] = {}
    for number, line in enumerate(lines or [""], start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2].startswith("/") or ".." in match[2].split("/") or match[2] in listed:
            raise UserError(f"{path}: line {number} is not the checksum of a file in this folder, {_UNCHECKED}")
        listed[match[2]] = match[1]
    return listed


def _files(folder: Path) -> set[str]:
    """Every file below `folder` except SHA256SUMS, relative to it. Folders that cannot be read are left out."""
    names = set()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        names |= {path.relative_to(folder).as_posix() for path in paths if os.path.isfile(path)}  # noqa: PTH113 - Path.is_file raises PermissionError
    return names - {NAME}


def _fault(path: Path, digest: str) -> str | None:
    try:
        if path.is_fifo():
            return "a pipe, not a file"
        return None if file_digest(path) == digest else f"differs from {NAME}"
    except FileNotFoundError:
        return f"missing, but listed in {NAME}"
    except OSError as error:
        return f"cannot be read ({error.__class__.__name__})"

"""SHA256SUMS of committed records: each file as `analysis/records.py` took it; `sha256sum -c` reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from analysis.reading.run_files import RECORD_FILES, is_file
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.digest import file_digest
from dynamic_rcnn.run.files import read_text
from dynamic_rcnn.wording import plural

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")
_ANEW = "python analysis/records.py writes it anew"


def write(folder: Path) -> None:
    """Write the digest of every file below `folder` into its SHA256SUMS, sorted by path."""
    lines = [f"{file_digest(folder / file)}  {file}\n" for file in sorted(_files(folder))]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def check(path: Path) -> dict[str, str]:
    """File below the folder of SHA256SUMS `path` -> what is wrong with it; {} where every file is as listed.

    Raises UserError if `path` is damaged. Hidden files are not looked at: nothing here reads them.
    """
    folder, listed = path.parent, _read(path)
    faults = {file: fault for file, digest in listed.items() if (fault := _fault(folder / file, digest))}
    faults |= {file: f"not listed in {NAME}" for file in _files(folder) - set(listed)}
    return dict(sorted(faults.items()))


def require(folder: Path) -> None:
    """Raises UserError if `folder` has a SHA256SUMS and is not as it says: a copy would hide that."""
    faults = check(folder / NAME) if (folder / NAME).exists() else {}
    if faults:
        file, fault = next(iter(faults.items()))
        raise UserError(f"{folder / file}: {fault} ({plural('such file', len(faults))}); put back what was recorded")


def problems(faults: dict[str, str]) -> list[str]:
    """A line a file."""
    return [f"{file}: {fault}; put back what was recorded, or take the records anew" for file, fault in faults.items()]


def spoiled_runs(faults: dict[str, str]) -> set[str]:
    """The run directories in which a file that the report reads is not as it was recorded."""
    parts = [file.split("/") for file, fault in faults.items() if not fault.startswith("not listed")]
    parts += [file.split("/") for file in faults if file.rsplit("/", 1)[-1] in RECORD_FILES]
    return {"/".join(part[:3]) for part in parts if len(part) > 3}


def _read(path: Path) -> dict[str, str]:
    """File -> digest."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error.__class__.__name__}), so no file is checked; {_ANEW}"
        ) from None
    found = [_LINE.fullmatch(line) for line in lines]
    listed: dict[str, str] = {}
    for number, match in enumerate(found or [None], start=1):
        if match is None or not _is_within(match[2]) or match[2] in listed:
            raise UserError(
                f"{path}: line {number} is no checksum of a file in this folder, so no file is checked; {_ANEW}"
            )
        listed[match[2]] = match[1]
    return listed


def _is_within(file: str) -> bool:
    return not file.startswith("/") and ".." not in PurePosixPath(file).parts


def _files(folder: Path) -> set[str]:
    """Every file below `folder` but SHA256SUMS, relative to it."""
    names = set()
    for parent, folders, files in os.walk(folder):  # what cannot be read in it is left out
        folders[:] = [name for name in folders if not name.startswith(".")]
        places = (Path(parent, name) for name in files if not name.startswith("."))
        names |= {place.relative_to(folder).as_posix() for place in places if is_file(place)}
    return names - {NAME}


def _fault(path: Path, digest: str) -> str | None:
    try:
        if path.is_fifo():
            return "a pipe, not a file"
        return None if file_digest(path) == digest else f"differs from {NAME}"
    except FileNotFoundError:
        return f"missing, and listed in {NAME}"
    except OSError as error:
        return f"cannot be read ({error.__class__.__name__})"

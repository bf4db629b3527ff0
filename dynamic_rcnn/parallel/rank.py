"""The processes of one run: which of them this one is, and the note that a failed one leaves for its parent.

A process learns its rank from RANK, WORLD_SIZE and LOCAL_RANK, set by its supervisor in a Slurm job or by the parent
that started it.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import LOGS, FileContent, read_content, write_content
from dynamic_rcnn.run.process_env import ProcessEnv, variable

# Exit codes of a training process: another process trains the run; another process of this run died; a signal stopped
# this process, and its checkpoint is written.
EXIT_LOCKED, EXIT_LOST, EXIT_INTERRUPTED = 75, 76, 130
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Rank:
    """The number of this process out of `size`. local: its number on its machine. attempt: token of the attempt."""

    number: int = 0
    size: int = 1
    local: int = 0
    attempt: str = ""

    @classmethod
    def from_env(cls) -> Rank | None:
        """Read the rank from the environment. Returns None without RANK. Raises UserError if one is not a number."""
        if "RANK" not in os.environ:
            return None
        number, size, local = map(_read_number, _VARIABLES)
        return cls(number, size, local, ProcessEnv.from_env().attempt or "")

    def to_env(self) -> dict[str, str]:
        """The variables that `from_env` reads, without the attempt."""
        return dict(zip(_VARIABLES, map(str, (self.number, self.size, self.local)), strict=True))

    def check(self, processes: int) -> None:
        """Raises UserError if this is not one of the run's `processes`, or no process claimed the run for them."""
        if self.size != processes:
            raise UserError(
                f"WORLD_SIZE={self.size}: this run has base.train.processes={processes}; start as many processes"
            )
        if self.number >= self.size:
            raise UserError(f"RANK={self.number}: must be below WORLD_SIZE, which is {self.size}")
        if self.size > 1 and not (self.attempt and ProcessEnv.from_env().claimed):
            raise UserError(
                f"RANK={self.number}: set without {variable('claimed')} and {variable('attempt')}; unset RANK, and "
                "this command starts the processes"
            )


class EndNote(FileContent):
    """How an attempt ended, left in the folder logs. cause: as in status.json. message: one line."""

    attempt: str
    cause: str
    message: str


@dataclass(frozen=True)
class Failure:
    """The failure of a process that could not record it itself. written: seconds since the epoch."""

    rank: int
    cause: str
    message: str
    written: float = field(default=0.0, compare=False)


def write_failure(rank: Rank, cause: str, message: str) -> None:
    """Write why this rank failed into the run directory (the working directory). Ignores a full disk."""
    with contextlib.suppress(OSError):
        content = EndNote(attempt=rank.attempt, cause=cause, message=message)
        write_content(Path(LOGS) / f"failure.rank{rank.number}.json", content)


def read_failures(run_dir: Path, attempt: str | None) -> list[Failure]:
    """Read the failures that ranks have written, sorted by rank. attempt: token of the attempt; None for all."""
    found = []
    for path in (run_dir / LOGS).glob("failure.rank*.json"):
        name = re.fullmatch(r"failure\.rank(\d+)\.json", path.name)
        with contextlib.suppress(UserError, OSError):
            content, written = read_content(EndNote, path), path.stat().st_mtime
            if name and attempt in (None, content.attempt):
                found.append(Failure(int(name[1]), content.cause, content.message, written))
    return sorted(found, key=lambda failure: failure.rank)


def _read_number(name: str) -> int:
    value = os.environ.get(name)
    if value is None or not value.isdigit():
        raise UserError(f"{name}={value}: must be a number if RANK is set; or unset all of {', '.join(_VARIABLES)}")
    return int(value)

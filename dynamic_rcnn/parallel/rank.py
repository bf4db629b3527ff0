"""The processes of one run: which of them this one is, and what one that fails leaves for whoever started it.

A process learns from the environment which it is (RANK, WORLD_SIZE, LOCAL_RANK), from the Slurm task or the parent that
started it. Each attempt has a token (DYNAMIC_RCNN_ATTEMPT), the same for all of its processes.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import LOGS, SCHEMA, read_json, write_json_atomic

CLAIMED = "DYNAMIC_RCNN_CLAIMED"
ATTEMPT = "DYNAMIC_RCNN_ATTEMPT"
NOTE = "DYNAMIC_RCNN_NOTE"  # what the record of the attempt is to say of the claim
# exit codes of a process that trains: nothing was done, for another one has the run; it only knows that another one of
# the run is gone; a signal stopped it, and its checkpoint is written
EXIT_LOCKED, EXIT_LOST, EXIT_INTERRUPTED = 75, 76, 130
_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")


@dataclass(frozen=True)
class Rank:
    """This process: `number` of `size`, `local` among those on its machine; `attempt` is the token."""

    number: int = 0
    size: int = 1
    local: int = 0
    attempt: str = ""

    @classmethod
    def of_this_process(cls) -> Rank | None:
        """As the environment says; None without RANK. Raises UserError where it says something else than numbers."""
        if "RANK" not in os.environ:
            return None
        number, size, local = map(_number, _NUMBERS)
        return cls(number, size, local, os.environ.get(ATTEMPT, ""))

    def check(self, processes: int) -> None:
        """Raises UserError where this is not one of the run's `processes`, or nobody has claimed the run for them."""
        if self.size != processes:
            raise UserError(
                f"WORLD_SIZE={self.size}: this run has base.train.processes={processes}; start as many processes"
            )
        if self.number >= self.size:
            raise UserError(f"RANK={self.number}: must be below WORLD_SIZE, which is {self.size}")
        if self.size > 1 and not (self.attempt and os.environ.get(CLAIMED) == "1"):
            raise UserError(
                f"RANK={self.number}: set without {CLAIMED} and {ATTEMPT}; without it the processes are started"
            )


@dataclass(frozen=True)
class Failure:
    """Why a process failed that could not record it itself.

    cause: as in status.json; message: one line; written: when (seconds since the epoch).
    """

    rank: int
    cause: str
    message: str
    written: float = field(default=0.0, compare=False)


def write_failure(rank: Rank, cause: str, message: str) -> None:
    """Leave in the run directory (the working directory) why this rank failed; a disk that is full is no error here."""
    content = {"schema": SCHEMA, "attempt": rank.attempt, "cause": cause, "message": message}
    with contextlib.suppress(OSError):
        write_json_atomic(Path(LOGS) / f"failure.rank{rank.number}.json", content)


def read_failures(run_dir: Path, attempt: str | None) -> list[Failure]:
    """The failures that ranks of an attempt wrote down, by rank.

    Args:
        run_dir: the run directory.
        attempt: the token of the attempt; None for any.
    """
    found = []
    for path in (run_dir / LOGS).glob("failure.rank*.json"):
        name = re.fullmatch(r"failure\.rank(\d+)\.json", path.name)
        with contextlib.suppress(UserError, KeyError, OSError):
            content, written = read_json(path), path.stat().st_mtime
            if name and attempt in (None, content["attempt"]):
                found.append(Failure(int(name[1]), str(content["cause"]), str(content["message"]), written))
    return sorted(found, key=lambda failure: failure.rank)


def _number(name: str) -> int:
    value = os.environ.get(name)
    if value is None or not value.isdigit():
        raise UserError(f"{name}={value}: must be a number where RANK is set; leave all of {', '.join(_NUMBERS)} unset")
    return int(value)

"""One attempt at a run inside a job: what its processes leave for each other in the run's logs folder.

logs/warning.json                        why Slurm warned the attempt
logs/failure.rank1.json                  how a rank ended that could not write status.json itself
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.rank import ATTEMPT, EXIT_LOCKED
from dynamic_rcnn.run.files import LOGS, SCHEMA, read_json, write_json_atomic
from dynamic_rcnn.run.lock import Holder, RunLockedError
from slurm import cli as queue

BEGAN = "DYNAMIC_RCNN_BEGAN"  # set by the batch script
_WARNING = f"{LOGS}/warning.json"
_BEGINNING = f"{LOGS}/beginning.json"
_BEGINNING_S = 300.0  # network file systems show new files late


@dataclass(frozen=True)
class JobTask:
    """This process's place in its job, from Slurm's environment.

    job: "123_4"; began: when this start of the job's script did (seconds since the epoch); nodes: as node[1-2].
    """

    job: str
    index: int
    restart: int
    began: float
    rank: int
    ranks: int
    local_rank: int
    nodes: str

    @classmethod
    def from_environment(cls) -> JobTask:
        """Raises UserError outside of a job array."""
        try:
            array, index = os.environ["SLURM_ARRAY_JOB_ID"], int(os.environ["SLURM_ARRAY_TASK_ID"])
            began = float(os.environ[BEGAN])
        except KeyError:
            raise UserError("no job array's task: this is run by the batch script that launch.py submits") from None
        return cls(
            job=f"{array}_{index}",
            index=index,
            restart=int(os.environ.get("SLURM_RESTART_COUNT", 0)),
            began=began,
            rank=int(os.environ.get("SLURM_PROCID", 0)),
            ranks=int(os.environ.get("SLURM_NTASKS", 1)),
            local_rank=int(os.environ.get("SLURM_LOCALID", 0)),
            nodes=os.environ.get("SLURM_JOB_NODELIST", ""),
        )

    @property
    def token(self) -> str:
        return f"{self.job}.{self.restart}"

    @property
    def holder(self) -> Holder:
        return Holder.this_process(self.job, self.restart)

    def environment(self) -> dict[str, str]:
        """What the trainer's record says of the job."""
        return {
            ATTEMPT: self.token,
            "DYNAMIC_RCNN_JOB": self.job,
            "DYNAMIC_RCNN_RESTART": str(self.restart),
            "DYNAMIC_RCNN_NODES": self.nodes,
        }

    def alive(self, holder: Holder) -> bool | None:
        """Whether Slurm says that the job which holds a run's claim runs; None if it is not Slurm's, or not known."""
        if holder.job is None:
            return None
        if holder.job == self.job:
            return holder.restart > self.restart  # Slurm runs a job once at a time: an earlier one is given up
        try:
            return any(job.job == holder.job and job.state != "PENDING" for job in queue.active())
        except queue.SlurmError:
            return None


def begin(task: JobTask, number: int | None) -> None:
    """Tell the other ranks that the run is claimed, and its attempt's number; None: there is nothing to do."""
    content = {"schema": SCHEMA, "attempt": task.token, "number": number}
    write_json_atomic(Path(_BEGINNING), content)


def wait_for_beginning(run_dir: Path, task: JobTask) -> int | None:
    """What rank 0 says with `begin`. Raises UserError if it says nothing for minutes."""
    deadline = time.monotonic() + _BEGINNING_S
    while (note := _read_note(run_dir / _BEGINNING, task.token)) is None:
        if time.monotonic() > deadline:
            raise UserError(f"{run_dir / _BEGINNING}: rank 0 has not begun within {_BEGINNING_S:.0f} s")
        os.scandir(run_dir).close()  # makes a network file system look again
        time.sleep(0.1)
    return note["number"]


def write_warning(attempt: str, cause: str, message: str) -> None:
    """Leave word of why Slurm warned the attempt; the working directory is the run's."""
    write_json_atomic(Path(_WARNING), {"schema": SCHEMA, "attempt": attempt, "cause": cause, "message": message})


def read_warning(attempt: str) -> tuple[str, str] | None:
    """(cause, one line) of the attempt's warning; None if it had none."""
    note = _read_note(Path(_WARNING), attempt)
    return (note["cause"], note["message"]) if note is not None else None


def _read_note(path: Path, attempt: str) -> dict[str, Any] | None:
    """The note, if it is of this attempt."""
    try:
        note = read_json(path)
    except UserError:
        return None
    return note if note.get("attempt") == attempt else None


def exit_code(work: Callable[[], int]) -> int:
    """Of a command's work, its errors told in one line."""
    try:
        return work()
    except RunLockedError as error:
        print(error, file=sys.stderr)
        return EXIT_LOCKED
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2

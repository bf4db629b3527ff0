"""One attempt at a run inside a Slurm job: its position in the job, and the notes that its processes exchange.

The run's folder logs/ contains:

    attempt3.log, attempt3.rank1.log    output of rank 0 and of the other ranks
    beginning.json                      the attempt that rank 0 started
    warning.json                        why Slurm warned the attempt
    failure.rank1.json                  how a rank failed that could not write status.json itself
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dynamic_rcnn import cli
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.rank import EXIT_LOCKED, EndNote
from dynamic_rcnn.run.files import LOGS, FileContent, read_content, write_content
from dynamic_rcnn.run.lock import Holder, RunLockedError
from dynamic_rcnn.run.process_env import ProcessEnv
from dynamic_rcnn.run.status import StatusFile
from slurm import cli as slurm_cli

_WARNING = f"{LOGS}/warning.json"
_BEGINNING = f"{LOGS}/beginning.json"
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_BEGINNING_S = 300.0  # network file systems show new files late


class Beginning(FileContent):
    """The content of logs/beginning.json. number: of the attempt in the record; None if there is nothing to do."""

    attempt: str
    number: int | None


_Note = TypeVar("_Note", Beginning, EndNote)


@dataclass(frozen=True)
class JobTask:
    """The position of this process in its job, from Slurm's environment.

    job: "123_4". began: when the job's script started this time, in seconds since the epoch. nodes: as "node[1-2]".
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
    def from_env(cls) -> JobTask:
        """Raises UserError outside a job array."""
        array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        began = ProcessEnv.from_env().began
        if array is None or index is None or began is None:
            raise UserError("not a task of a job array: only the batch scripts of launch.py run this command")
        return cls(
            job=f"{array}_{index}",
            index=int(index),
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

    def process_env(self, log: str | None = None, command: str | None = None) -> ProcessEnv:
        """What the record of the attempt contains about the job."""
        return ProcessEnv(
            attempt=self.token, job=self.job, restart=self.restart, nodes=self.nodes, log=log, command=command
        )

    def is_alive(self, holder: Holder) -> bool | None:
        """Whether the job that holds a run's claim is running, according to Slurm. None if Slurm does not know."""
        if holder.job is None:
            return None
        if holder.job == self.job:
            return holder.restart > self.restart  # Slurm starts a job again only after it gave up the earlier start
        try:
            return any(job.job == holder.job and job.state != "PENDING" for job in slurm_cli.active())
        except slurm_cli.SlurmError:
            return None


def start_attempt(record: StatusFile, task: JobTask, note: str | None, log: str | None = None) -> None:
    """Begin the attempt of this job in the record. note: about a takeover of the run, or None."""
    os.environ.update(task.process_env(log).to_env({}))
    record.start(record.iteration)
    if note:
        record.note(note)
        record.progress(record.iteration)


def announce(task: JobTask, number: int | None) -> None:
    """Tell the other ranks that rank 0 claimed the run, and the attempt's number. None: there is nothing to do."""
    write_content(Path(_BEGINNING), Beginning(attempt=task.token, number=number))


def wait_for_announcement(run_dir: Path, task: JobTask) -> int | None:
    """Wait for `announce` of rank 0. Returns its number. Raises UserError after some minutes."""
    deadline = time.monotonic() + _BEGINNING_S
    while (note := _read_note(Beginning, run_dir / _BEGINNING, task.token)) is None:
        if time.monotonic() > deadline:
            raise UserError(f"{run_dir / _BEGINNING}: rank 0 did not start within {_BEGINNING_S:.0f} s")
        os.scandir(run_dir).close()  # makes a network file system look again
        time.sleep(0.1)
    return note.number


def write_warning(attempt: str, cause: str, message: str) -> None:
    """Record why Slurm warned the attempt. The working directory is the run's."""
    write_content(Path(_WARNING), EndNote(attempt=attempt, cause=cause, message=message))


def read_warning(attempt: str | None) -> tuple[str, str] | None:
    """(cause, message) of the attempt's warning; None if it had none."""
    note = _read_note(EndNote, Path(_WARNING), attempt)
    return (note.cause, note.message) if note is not None else None


def killed_here(root: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> bool:
    """Whether a control group (version 2 or 1) of this process's job has counted an oom_kill: no memory was left."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return False
    groups = [root / path.strip("/") for number, _, path in lines if number == "0"]
    groups += [root / "memory" / path.strip("/") for _, names, path in lines if "memory" in names.split(",")]
    return any(_has_oom_kill(folder) for group in groups for folder in _groups_of_job(group, root))


def _groups_of_job(group: Path, root: Path) -> list[Path]:
    """`group` and the control groups above it that belong to the job."""
    return [folder for folder in (group, *group.parents) if folder != root and "job_" in folder.as_posix()]


def _has_oom_kill(folder: Path) -> bool:
    for name in ("memory.events", "memory.oom_control"):
        try:
            words = dict(line.split(maxsplit=1) for line in (folder / name).read_text().splitlines() if " " in line)
        except OSError:
            continue
        if words.get("oom_kill", "0") != "0":
            return True
    return False


def run_command(main: Callable[..., int], usage: str, *names: str) -> int:
    """Like `dynamic_rcnn.cli.run`, with a separate exit code for a run that another process trains.

    main: called with the arguments: SUBMISSION as a path, then the numbers called `names`.
    """

    def work(arguments: Sequence[str]) -> int:
        folder, *numbers = cli.paths(arguments, "SUBMISSION", *names)
        try:
            pairs = zip(names, numbers, strict=True)
            return main(folder, *(cli.count(name, str(number), 0) for name, number in pairs))
        except RunLockedError as error:
            print(error, file=sys.stderr)
            return EXIT_LOCKED

    return cli.run(work, usage)


def _read_note(kind: type[_Note], path: Path, attempt: str | None) -> _Note | None:
    """The note, if it is of this attempt."""
    try:
        note = read_content(kind, path)
    except UserError:
        return None
    return note if note.attempt == attempt else None

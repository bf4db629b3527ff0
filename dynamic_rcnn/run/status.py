"""status.json: the progress of a run and the ends of its attempts; `StatusFile`, with which a trainer writes it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import is_superseded
from dynamic_rcnn.run.files import (
    EVALUATIONS,
    STATUS,
    TRAIN_LOG,
    FileContent,
    Part,
    append_jsonl,
    find_logs,
    log_name,
    read_content,
    truncate_jsonl,
    write_content,
)
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.process_env import ProcessEnv

_State = Literal["running", "done", "failed"]


class SupersededError(RunLockedError):
    """Another attempt has taken over the run: this process writes into a directory that was moved aside."""


class Attempt(Part):
    """One start of the run's processes.

    outcome: None while it runs, "done", or the cause of its failure. job, restart, nodes: Slurm's, None without Slurm.
    bad_node: the node on which the check before training failed, if it is known.
    log: path of rank 0's output, relative to the run directory. Times are seconds since the epoch.
    """

    number: int = 0
    started: float = 0.0
    ended: float | None = None
    notes: list[str] = Field(default_factory=list)
    from_iteration: int = 0
    to_iteration: int = 0
    outcome: str | None = None
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    restart: int | None = None
    nodes: str | None = None
    bad_node: str | None = None
    log: str | None = None

    @property
    def token(self) -> str | None:
        """The token of a Slurm attempt's processes; None without Slurm."""
        return f"{self.job}.{self.restart}" if self.job else None


class Status(FileContent):
    """The content of status.json. heartbeat: when it was written, in seconds since the epoch."""

    state: _State
    cause: str | None = None
    message: str | None = None
    iteration: int
    max_iterations: int
    heartbeat: float | None = None
    attempts: list[Attempt] = Field(default_factory=list)


class StatusFile:
    """Writes one attempt of a run into its directory. Only the process that holds the run's lock makes one.

    In a trainer, whose working directory is the run directory (run_dir "."), it detects that another attempt took over.
    """

    def __init__(self, run_dir: Path, max_iterations: int) -> None:
        self.run_dir = run_dir
        self.path = Path.cwd() if run_dir == Path() else None
        self.max_iterations = max_iterations
        status = _read_status(run_dir)
        self.attempts = status.attempts if status else []
        self.heartbeat = status.heartbeat if status else None  # when an earlier attempt last wrote
        self.iteration = 0
        self.started = False

    @classmethod
    def open(cls, run_dir: Path) -> StatusFile:
        """The record of a run as it stands."""
        status = _read_status(run_dir)
        record = cls(run_dir, status.max_iterations if status else 0)
        record.iteration = status.iteration if status else 0
        return record

    @classmethod
    def close_done(cls, run_dir: Path) -> None:
        """End the record of a run that was killed after it wrote its metrics and before it wrote its status."""
        if read_content(Status, run_dir / STATUS).state != "done":
            cls.open(run_dir).end("done")

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    def start(self, iteration: int) -> None:
        """Begin an attempt that continues after `iteration`. Earlier attempts without an outcome were killed.

        Continues the attempt that this job's supervisor opened, if there is one.
        """
        self.started = True
        env = ProcessEnv.from_env()
        if not (self.last and _is_open_here(self.last, env)):
            killed = {"outcome": "killed", "ended": self.heartbeat}
            self.attempts = [each if each.outcome else each.model_copy(update=killed) for each in self.attempts]
            self._add_killed(env.log)
            self.attempts.append(Attempt(number=len(self.attempts) + 1, started=time.time()))
        self._change(
            from_iteration=iteration,
            to_iteration=iteration,
            outcome=None,
            host=socket.gethostname(),
            pid=os.getpid(),
            job=env.job,
            restart=env.restart,
            nodes=env.nodes,
            log=env.log,
        )
        self.progress(iteration)

    def forget_after(self, iteration: int) -> None:
        """Drop what was logged and evaluated beyond `iteration`: the attempt logs it again."""
        for name in (TRAIN_LOG, EVALUATIONS):
            truncate_jsonl(self.run_dir / name, iteration)

    def note(self, text: str) -> None:
        """Add a note for the reader to the attempt, in the log and in the status."""
        print(text, flush=True)
        self._change(notes=[*self.attempts[-1].notes, text])

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to train.jsonl and print it. Raises SupersededError."""
        self._check_path()
        append_jsonl(self.run_dir / TRAIN_LOG, row)
        shown = ("loss", "T", "beta", "seconds")
        values = "  ".join(f"{key} {row[key]:.4f}" for key in shown if key in row)
        print(f"iteration {row['iteration']}/{self.max_iterations}  {values}", flush=True)

    def progress(self, iteration: int) -> None:
        """Record the run's progress. Raises SupersededError."""
        self._check_path()
        self.iteration = iteration
        self._write("running")

    def blame(self, node: str | None) -> None:
        """Note the node at fault in the attempt, which is about to end."""
        self._change(bad_node=node)

    def end(self, outcome: str, message: str | None = None, ended: float | None = None) -> None:
        """Close the attempt.

        outcome: "done", or the cause of the failure. message: one line about the failure. ended: when it ended, in
        seconds since the epoch; None for now.
        """
        self._change(ended=ended or time.time(), outcome=outcome)
        failed = outcome != "done"
        self._write("failed" if failed else "done", outcome if failed else None, message)

    def add_failed(self, outcome: str, message: str, log: str) -> None:
        """Record an attempt that ended before it wrote a status. The caller holds the run's claim."""
        now = time.time()
        self.attempts.append(Attempt(number=len(self.attempts) + 1, started=now, host=socket.gethostname(), log=log))
        self.end(outcome, message)

    def _add_killed(self, log: str | None) -> None:
        """Add attempts that were killed before they wrote a status: they left logs, but `log` is that of this one."""
        for (number, rank), path in sorted(find_logs(self.run_dir).items()):
            name = log_name(number, rank)
            if log is not None and rank == 0 and number > len(self.attempts) and name != log:
                ended = path.stat().st_mtime
                self.attempts.append(Attempt(number=number, started=ended, ended=ended, outcome="killed", log=name))

    def _change(self, **values: Any) -> None:
        self.attempts[-1] = self.attempts[-1].model_copy(update=values)

    def _check_path(self) -> None:
        if self.path is not None and is_superseded(self.path):
            raise SupersededError(f"{self.path}: another attempt has taken over this run")

    def _write(self, state: _State, cause: str | None = None, message: str | None = None) -> None:
        self._change(to_iteration=self.iteration)
        status = Status(
            state=state,
            cause=cause,
            message=message,
            iteration=self.iteration,
            max_iterations=self.max_iterations,
            heartbeat=time.time(),
            attempts=self.attempts,
        )
        write_content(self.run_dir / STATUS, status)


def _read_status(run_dir: Path) -> Status | None:
    try:
        return read_content(Status, run_dir / STATUS)
    except UserError:
        return None


def _is_open_here(attempt: Attempt, env: ProcessEnv) -> bool:
    """Whether this Slurm job's supervisor opened the attempt."""
    here = (attempt.job, attempt.restart, attempt.nodes) == (env.job, env.restart, env.nodes)
    return attempt.outcome is None and env.job is not None and here

"""The record that a training process keeps of itself: status.json with its attempts, and train.jsonl."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import superseded
from dynamic_rcnn.run.directory import (
    EVALUATIONS,
    SCHEMA,
    STATUS,
    TRAIN_LOG,
    RunLockedError,
    append_jsonl,
    read_json,
    truncate_jsonl,
    write_json_atomic,
)


class SupersededError(RunLockedError):
    """Another attempt has taken the run over: this process writes into a directory that was moved aside."""


class Record:
    """Writes one attempt of a run into its directory. Only the process that holds the run's lock makes one.

    A trainer, whose working directory is the run directory (run_dir "."), notices here that it was given up for lost.
    """

    def __init__(self, run_dir: Path, max_iterations: int) -> None:
        self.run_dir = run_dir
        self.place = Path.cwd() if run_dir == Path() else None
        self.max_iterations = max_iterations
        self.attempts = _attempts(run_dir)
        self.iteration = 0
        self.started = False

    @classmethod
    def open(cls, run_dir: Path) -> Record:
        """The record of a run as it stands."""
        try:
            status = read_json(run_dir / STATUS)
        except UserError:
            return cls(run_dir, 0)
        record = cls(run_dir, status.get("max_iterations", 0))
        record.iteration = status.get("iteration", 0)
        return record

    @classmethod
    def close_done(cls, run_dir: Path) -> None:
        """End the record of a run that was killed after its metrics were written and before it could say so."""
        status = read_json(run_dir / STATUS)
        if status["state"] != "done":
            record = cls(run_dir, status["max_iterations"])
            record.iteration = status["iteration"]
            record.end("done")

    def start(self, iteration: int) -> None:
        """Begin an attempt that goes on after `iteration`; earlier ones without an end were killed.

        An attempt of this same Slurm job that its supervisor began is gone on with.
        """
        self.started = True
        if not (self.attempts and _is_open_here(self.attempts[-1])):
            for attempt in self.attempts:
                if attempt["outcome"] is None:
                    attempt["outcome"] = "killed"
            self.attempts.append({"number": len(self.attempts) + 1, "started": time.time(), "ended": None, "notes": []})
        self.attempts[-1] |= {
            "from_iteration": iteration,
            "to_iteration": iteration,
            "outcome": None,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **_job(),
            "log": os.environ.get("DYNAMIC_RCNN_LOG"),
        }
        self.progress(iteration)

    def forget_after(self, iteration: int) -> None:
        """Drop what was logged and evaluated beyond `iteration`: it comes again."""
        for name in (TRAIN_LOG, EVALUATIONS):
            truncate_jsonl(self.run_dir / name, iteration)

    def note(self, text: str) -> None:
        """Say something that the attempt's reader should know, in the log and in the status."""
        print(text, flush=True)
        self.attempts[-1]["notes"].append(text)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to train.jsonl and print it. Raises SupersededError."""
        self._check_place()
        append_jsonl(self.run_dir / TRAIN_LOG, row)
        shown = ("loss", "T", "beta", "seconds")
        values = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
        print(f"iteration {row['iteration']}/{self.max_iterations}  {values}", flush=True)

    def progress(self, iteration: int) -> None:
        """Say how far the run is. Raises SupersededError."""
        self._check_place()
        self.iteration = iteration
        self._write("running", None, None)

    def end(self, outcome: str, message: str | None = None) -> None:
        """Close the attempt: "done", or the cause of its failure with one line about it."""
        self.attempts[-1].update(ended=time.time(), outcome=outcome)
        if outcome == "done":
            self._write("done", None, None)
        else:
            self._write("failed", outcome, message)

    def _check_place(self) -> None:
        if self.place is not None and superseded(self.place):
            raise SupersededError(f"{self.place}: another attempt has taken this run over")

    def _write(self, state: str, cause: str | None, message: str | None) -> None:
        self.attempts[-1]["to_iteration"] = self.iteration
        write_json_atomic(
            self.run_dir / STATUS,
            {
                "schema": SCHEMA,
                "state": state,
                "cause": cause,
                "message": message,
                "iteration": self.iteration,
                "max_iterations": self.max_iterations,
                "heartbeat": time.time(),
                "attempts": self.attempts,
            },
        )


def _job() -> dict[str, Any]:
    """What Slurm calls this attempt; null without Slurm."""
    restart = os.environ.get("DYNAMIC_RCNN_RESTART")
    return {
        "job": os.environ.get("DYNAMIC_RCNN_JOB"),
        "restart": int(restart) if restart else None,
        "nodes": os.environ.get("DYNAMIC_RCNN_NODES"),
    }


def _attempts(run_dir: Path) -> list[dict[str, Any]]:
    try:
        return read_json(run_dir / STATUS)["attempts"]
    except (UserError, KeyError):
        return []


def _is_open_here(attempt: dict[str, Any]) -> bool:
    job = _job()
    return attempt["outcome"] is None and job["job"] is not None and all(attempt.get(key) == job[key] for key in job)

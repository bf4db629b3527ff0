"""Starts the processes of one run on this machine, passes signals on, and records how they ended. Imports no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import FrameType

from dynamic_rcnn.parallel.rank import EXIT_INTERRUPTED, EXIT_LOCKED, EXIT_LOST, Rank, read_failures
from dynamic_rcnn.run.claim import Claim
from dynamic_rcnn.run.fingerprint import PACKAGE
from dynamic_rcnn.run.process_env import ProcessEnv
from dynamic_rcnn.run.status import StatusFile

TRAINER = [sys.executable, "-m", "dynamic_rcnn.train"]
GRACE_S = 30.0  # how long the other processes may take to end after one has failed
EXIT_CODES = {"done": 0, "bad input": 2, "interrupted": EXIT_INTERRUPTED}  # all other outcomes have code 1
_POLL_S = 0.05


class Processes:
    """The processes of one attempt, by rank."""

    def __init__(self, count: int, claim: Claim | None, attempt: str) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.received: list[int] = []  # signals, passed on also to processes that start later
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._pass_on)
        for number in range(count):
            pipe = ProcessEnv.from_env().heartbeat if number == 0 else None
            lock = claim.lock if claim else None  # held while any of the run's processes lives
            inherited = [descriptor for descriptor in (lock, pipe) if descriptor is not None]
            env = _environment(Rank(number, count, number, attempt), claim, pipe)
            self.children.append(subprocess.Popen([*TRAINER, "."], env=env, pass_fds=inherited))
            for received in self.received:
                self.children[-1].send_signal(received)

    def wait(self) -> tuple[int, int] | None:
        """Wait for all. Returns (rank, exit code) of the one that failed first; None if none did."""
        failed: tuple[int, int] | None = None
        deadline = float("inf")
        while None in [child.poll() for child in self.children]:
            if failed is None and (failed := self._failed()):
                deadline = time.monotonic() + GRACE_S
            if time.monotonic() > deadline:
                for child in self.children:
                    child.kill()
            time.sleep(_POLL_S)
        return failed or self._failed()

    def _failed(self) -> tuple[int, int] | None:
        """A process that has failed so far, preferably one that was ended by a signal."""
        codes = [(rank, child.returncode) for rank, child in enumerate(self.children) if child.returncode]
        return min(codes, key=lambda item: item[1]) if codes else None

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        for child in self.children:
            child.send_signal(number)


def run_processes(count: int, claim: Claim | None) -> int:
    """Train the run in the working directory with `count` processes. Returns the exit code.

    claim: None if the parent process holds it.
    """
    attempt = uuid.uuid4().hex
    attempts = len(StatusFile.open(Path()).attempts)
    processes = Processes(count, claim, attempt)
    failed = processes.wait()
    if failed is None:
        return 0
    if any(child.returncode == EXIT_LOCKED for child in processes.children):
        return EXIT_LOCKED
    return _record(_cause(failed, attempt, processes.received), attempts)


def _record(end: tuple[str, str], attempts: int) -> int:
    """Record the end if rank 0 could not do it. attempts: how many were recorded before. Returns the exit code."""
    record = StatusFile.open(Path())
    begun = len(record.attempts) > attempts
    if not begun or record.attempts[-1].outcome is None:
        cause, message = end
        print(f"{cause}: {message}", file=sys.stderr, flush=True)
        if not begun:
            record.start(record.iteration)
        record.end(cause, message)
    return EXIT_CODES.get(record.attempts[-1].outcome or "", 1)


def _cause(failed: tuple[int, int], attempt: str, received: list[int]) -> tuple[str, str]:
    """(cause, message) of an end that rank 0 did not record. received: signals that were passed on."""
    rank, code = failed
    if -code in received:
        return "interrupted", "stopped by a signal while it was starting"
    failures = read_failures(Path(), attempt)
    if failures:
        return failures[0].cause, f"rank {failures[0].rank}: {failures[0].message}"
    if code >= 0:
        lost = "lost the other processes for an unknown reason"
        return "error", f"rank {rank} {lost if code == EXIT_LOST else f'ended with exit code {code}'}; see the log"
    hint = " (often sent by the kernel when memory runs out)" if -code == signal.SIGKILL else ""
    return "killed", f"rank {rank} was killed by signal {-code}{hint}; relaunching resumes the run"


def _environment(rank: Rank, claim: Claim | None, heartbeat: int | None) -> dict[str, str]:
    """The environment of one process, with the path of this code and the process's share of the run's threads."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    available = int(threads) if threads.isdigit() else len(os.sched_getaffinity(0))
    note = claim.note if claim else None
    own = replace(ProcessEnv.from_env(), claimed=True, attempt=rank.attempt, heartbeat=heartbeat, note=note)
    return {
        **own.to_env(),
        **rank.to_env(),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": str(max(1, available // rank.size)),
    }

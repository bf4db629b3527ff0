"""A queue on this machine: each job is a subprocess with its share of the cores and GPUs.

A job that fails does not stop the others. On an interrupt every job gets SIGTERM and time to write a checkpoint. Each
job has its own session, so that jobs survive a queue that is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamic_rcnn import cli
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.rank import EXIT_LOCKED
from dynamic_rcnn.wording import plural

BUSY_DELAY_S = 20.0
STOP_PATIENCE_S = 120.0
NVIDIA_SMI_S = 30.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 0.1


@dataclass
class Job:
    """A command to run.

    Attributes:
        name: a name that no other job of the queue has.
        log: the file that its output is appended to.
        after: the names of jobs that must have ended with exit code 0 first.
        ready: called before the start until it returns True.
        env: variables to add to the environment.
    """

    name: str
    command: list[str]
    log: Path
    after: Sequence[str] = ()
    ready: Callable[[], bool] = lambda: True
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass
class _Running:
    job: Job
    slot: int
    process: subprocess.Popen[bytes]


class LocalQueue:
    """Runs jobs in a fixed number of slots.

    Args:
        slots: how many jobs run at a time.
        threads: the number of threads of each process of a job.
        gpus: the GPUs to use. Slot k sees `processes` of them, from number k * processes on; slots share GPUs where
            there are too few.
        processes: the number of processes of one job, which starts them itself.
    """

    def __init__(self, slots: int, threads: int, gpus: Sequence[str] = (), processes: int = 1) -> None:
        self.slots = slots
        self.threads = threads
        self.processes = processes
        self.gpus = list(gpus)
        self.exit_codes: dict[str, int | None] = {}
        self._not_before: dict[str, float] = {}

    def run(self, jobs: Sequence[Job], on_tick: Callable[[], None] = lambda: None) -> dict[str, int | None]:
        """Run all jobs, started in their order. Raises KeyboardInterrupt once a signal has stopped the running ones.

        on_tick: called about ten times per second to show progress. An error in it is reported and stops nothing.

        Returns the exit code of each job; None for a job that was not started because one that it needs failed.
        """
        waiting, running, received = list(jobs), list[_Running](), list[int]()
        show_progress = _report_errors_of(on_tick)
        with cli.handle_signals(_STOP_SIGNALS, received.append):
            try:
                while (waiting or running) and not received:
                    running[:] = [item for item in running if not self._ended(item, waiting)]
                    self._start(waiting, running)
                    show_progress()
                    time.sleep(_POLL_S)
                if received:
                    raise KeyboardInterrupt
            except BaseException:
                _stop(running, received)
                raise
        return self.exit_codes

    def _start(self, waiting: list[Job], running: list[_Running]) -> None:
        for job in list(waiting):
            if len(running) >= self.slots:
                return
            if any(name not in self.exit_codes for name in job.after):
                continue
            if any(self.exit_codes[name] != 0 for name in job.after):
                waiting.remove(job)
                self.exit_codes[job.name] = None
            elif time.monotonic() >= self._not_before.get(job.name, 0.0) and job.ready():
                slot = min(set(range(self.slots)) - {item.slot for item in running})
                running.append(_Running(job, slot, self._spawn(job, slot)))
                waiting.remove(job)

    def _spawn(self, job: Job, slot: int) -> subprocess.Popen[bytes]:
        # passive: a waiting thread must not spin on a core that another job could use
        env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(self.threads), **job.env}
        if self.gpus:
            first = slot % (len(self.gpus) // self.processes) * self.processes
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus[first : first + self.processes])
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            # in its own session, so that Ctrl-C in the terminal reaches the queue alone, which stops the jobs
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            return subprocess.Popen(job.command, env=env, cwd=job.cwd, start_new_session=True, **streams)

    def _ended(self, item: _Running, waiting: list[Job]) -> bool:
        code = item.process.poll()
        if code is None:
            return False
        if code == EXIT_LOCKED:
            self._not_before[item.job.name] = time.monotonic() + BUSY_DELAY_S
            waiting.append(item.job)
        else:
            self.exit_codes[item.job.name] = code
        return True


def _report_errors_of(on_tick: Callable[[], None]) -> Callable[[], None]:
    """`on_tick`, with errors printed once of each kind: a table that cannot be drawn must not stop the runs."""
    reported: set[type[Exception]] = set()

    def call() -> None:
        try:
            on_tick()
        except Exception as error:
            if type(error) not in reported:
                reported.add(type(error))
                _print_error(f"the progress display failed ({type(error).__name__}: {error}); the runs continue")

    return call


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(text, file=sys.stderr, flush=True)


def _stop(running: Sequence[_Running], received: Sequence[int]) -> None:
    """Send SIGTERM to every job, wait for checkpoints, then send SIGKILL; at once after a second Ctrl-C."""
    interrupts = received.count(signal.SIGINT)
    if running:
        _print_error(f"stopping {plural('job', len(running))}; press Ctrl-C again to kill them")
    for item in running:
        item.process.terminate()
    deadline = time.monotonic() + STOP_PATIENCE_S
    while any(item.process.poll() is None for item in running):
        if time.monotonic() > deadline or received.count(signal.SIGINT) > interrupts:
            for item in running:
                item.process.kill()
                item.process.wait()
        time.sleep(_POLL_S)


def slots_and_threads(
    processes: int, slots: int | None, threads: int | None, gpus: Sequence[str], cores: int
) -> tuple[int, int]:
    """How many runs to start at a time, and the threads of each of their processes.

    Each of a run's processes has a GPU of its own where there are any. What the user gave is kept.
    """
    if gpus and processes > len(gpus):
        raise UserError(
            f"cluster.processes={processes}: each process needs its own GPU, and {len(gpus)} are visible "
            f"({','.join(gpus)}); give at most {len(gpus)}, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    slots = slots or max(1, (len(gpus) or cores) // processes)
    return slots, threads or max(1, cores // (slots * processes))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by index or by the names in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"nvidia-smi -L: {error}; continuing without GPUs (set CUDA_VISIBLE_DEVICES to use them)", file=sys.stderr
        )
        return []
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]

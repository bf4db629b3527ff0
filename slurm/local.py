"""A queue with slots on this machine: each job is a subprocess with its share of the threads, and a GPU if there are.

The queue survives its jobs: one that fails does not stop the others. On an interrupt every job gets SIGTERM and the
time to write a checkpoint.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EXIT_BUSY = 75  # the job's work is being done by another process: ask again later
BUSY_DELAY_S = 20.0
STOP_PATIENCE_S = 120.0
_POLL_S = 0.2


@dataclass
class Job:
    """A command, where its output goes, and the name of a job that must end with exit code 0 before it starts."""

    name: str
    command: list[str]
    log: Path
    after: str | None = None
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    job: Job
    slot: int
    process: subprocess.Popen[bytes]


class LocalQueue:
    """Runs jobs in `slots` at a time, `threads` threads each; with `gpus`, slot k sees gpus[k] alone."""

    def __init__(self, slots: int, threads: int, gpus: Sequence[str] = ()) -> None:
        self.slots = slots
        self.threads = threads
        self.gpus = list(gpus)
        self.exit_codes: dict[str, int | None] = {}
        self._not_before: dict[str, float] = {}

    def run(self, jobs: Sequence[Job], on_tick: Callable[[], None] = lambda: None) -> dict[str, int | None]:
        """Run all jobs. Returns each one's exit code; None: not started, because the job it comes after failed.

        Raises KeyboardInterrupt after stopping the running jobs, if SIGINT or SIGTERM arrives.
        """
        waiting, running = list(jobs), list[_Running]()
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            while waiting or running:
                running = [item for item in running if not self._ended(item, waiting)]
                self._start(waiting, running)
                on_tick()
                time.sleep(_POLL_S)
            return self.exit_codes
        except KeyboardInterrupt:
            _stop(running)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _start(self, waiting: list[Job], running: list[_Running]) -> None:
        for job in list(waiting):
            if len(running) >= self.slots:
                return
            if job.after is not None and job.after not in self.exit_codes:
                continue
            if job.after is not None and self.exit_codes[job.after] != 0:
                waiting.remove(job)
                self.exit_codes[job.name] = None
            elif time.monotonic() >= self._not_before.get(job.name, 0.0):
                waiting.remove(job)
                slot = min(set(range(self.slots)) - {item.slot for item in running})
                running.append(_Running(job, slot, self._spawn(job, slot)))

    def _spawn(self, job: Job, slot: int) -> subprocess.Popen[bytes]:
        # passive: a thread that waits for its team must not spin on a core that another job could use
        env = {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE", **os.environ, **job.env}
        if self.gpus:
            env["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            # a session of its own: Ctrl-C in the terminal reaches the queue alone, which stops its jobs in order
            return subprocess.Popen(
                job.command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _ended(self, item: _Running, waiting: list[Job]) -> bool:
        code = item.process.poll()
        if code is None:
            return False
        if code == EXIT_BUSY:
            self._not_before[item.job.name] = time.monotonic() + BUSY_DELAY_S
            waiting.append(item.job)
        else:
            self.exit_codes[item.job.name] = code
        return True


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _stop(running: Sequence[_Running]) -> None:
    """SIGTERM to every job, time to write a checkpoint, then SIGKILL. A second interrupt kills at once."""
    for item in running:
        item.process.terminate()
    deadline = time.monotonic() + STOP_PATIENCE_S
    try:
        for item in running:
            item.process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for item in running:
            item.process.kill()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by index or by the names in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]

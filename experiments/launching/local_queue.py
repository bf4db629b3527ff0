"""A queue with slots on this machine: each job is a subprocess with its share of the threads, and GPUs if there are.

The queue survives its jobs: one that fails does not stop the others. On an interrupt every job gets SIGTERM and the
time to write a checkpoint. Jobs have sessions of their own: they survive a queue that is killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.rank import EXIT_LOCKED

BUSY_DELAY_S = 20.0
STOP_PATIENCE_S = 120.0
NVIDIA_SMI_S = 30.0
_POLL_S = 0.1


@dataclass
class Job:
    """A command, where its output goes, and what must be before it starts.

    after: the names of jobs that must have ended with exit code 0. ready: asked until it says yes.
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
    """Runs jobs of `processes` processes each (which a job starts itself) in `slots` at a time.

    threads: of each process. gpus: slot k sees those from k * processes on, as many as the job has processes, and
    where slots outnumber GPUs, slots share them.
    """

    def __init__(self, slots: int, threads: int, gpus: Sequence[str] = (), processes: int = 1) -> None:
        self.slots = slots
        self.threads = threads
        self.processes = processes
        self.gpus = list(gpus)
        self.exit_codes: dict[str, int | None] = {}
        self._not_before: dict[str, float] = {}

    def run(self, jobs: Sequence[Job], on_tick: Callable[[], None] = lambda: None) -> dict[str, int | None]:
        """Run all jobs. Returns each one's exit code; None: not started, because the job it comes after failed.

        Raises KeyboardInterrupt after stopping the running jobs, if SIGINT, SIGTERM or SIGHUP arrives.
        """
        waiting, running = list(jobs), list[_Running]()
        with _signals() as received:
            try:
                while (waiting or running) and not received:
                    running[:] = [item for item in running if not self._ended(item, waiting)]
                    self._start(waiting, running)
                    on_tick()
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
        # passive: a thread that waits for its team must not spin on a core that another job could use
        env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(self.threads), **job.env}
        if self.gpus:
            first = slot % (len(self.gpus) // self.processes) * self.processes
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus[first : first + self.processes])
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            # a session of its own: Ctrl-C in the terminal reaches the queue alone, which stops its jobs in order
            return subprocess.Popen(
                job.command,
                env=env,
                cwd=job.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

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


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop, in a list that grows as they arrive; those ignored by the caller (nohup) stay ignored."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop(running: Sequence[_Running], received: Sequence[int]) -> None:
    """SIGTERM to every job, time to write a checkpoint, then SIGKILL. A further Ctrl-C kills at once."""
    if running:
        print(f"stopping {len(running)} jobs; Ctrl-C again kills them", file=sys.stderr, flush=True)
    for item in running:
        item.process.terminate()
    deadline, interrupts = time.monotonic() + STOP_PATIENCE_S, received.count(signal.SIGINT)
    while any(item.process.poll() is None for item in running):
        if time.monotonic() > deadline or received.count(signal.SIGINT) > interrupts:
            for item in running:
                item.process.kill()
                item.process.wait()
        time.sleep(_POLL_S)


def share(processes: int, slots: int | None, threads: int | None, gpus: Sequence[str], cores: int) -> tuple[int, int]:
    """(slots, threads a process) for jobs of so many processes; those that are given are kept.

    A process has a GPU of its own where there are any. Raises UserError where a job needs more GPUs than there are.
    """
    if gpus and processes > len(gpus):
        raise UserError(
            f"cluster.processes={processes}: each has a GPU of its own, and the visible ones are {','.join(gpus)}; "
            f"give at most {len(gpus)}, or CUDA_VISIBLE_DEVICES= for the CPU"
        )
    slots = slots or max(1, (len(gpus) or cores) // processes)
    return slots, threads or max(1, cores // (slots * processes))


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by index or by the names in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"nvidia-smi -L: {error}; going on without GPUs (CUDA_VISIBLE_DEVICES names them)", file=sys.stderr)
        return []
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]

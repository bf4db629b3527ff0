"""What can happen to a cluster and to the jobs on it, each as one act that a seeded generator chooses and aims."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurm import cli as queue
from slurm.cli import QueuedJob, SlurmError
from tests.slurm.cluster import RunningCluster
from tests.slurm.testcluster.namespaces import ClusterError

# In the place of a client: while the file FLAKY exists, every third call fails, half of them after they took effect.
_FLAKY_CLIENT = """#!/bin/bash
if [ -e {flaky} ] && [ $((RANDOM % 3)) = 0 ]; then
    [ $((RANDOM % 2)) = 0 ] && {real} "$@" > /dev/null 2>&1
    echo "slurm_receive_msg error: Socket timed out on send/recv operation" >&2
    exit 1
fi
exec {real} "$@"
"""
_CLIENTS = ("sbatch", "squeue", "scancel", "scontrol")
_REPAIR_S = (1.0, 12.0)  # how long something stays broken
_RESUME_S = 10.0


class Disturbances:
    """The acts on a cluster. Each returns whether there was anything to disturb.

    launch: starts launch.py with these arguments in the background, unless it is running, and returns its process id.
    """

    def __init__(
        self, cluster: RunningCluster, folder: Path, runs: Path, seed: int, launch: Callable[..., int | None]
    ) -> None:
        self.cluster, self.runs, self.launch = cluster, runs, launch
        self.flaky = folder / "flaky"
        self.random = random.Random(seed)
        self.repairs: list[tuple[float, Callable[[], object]]] = []
        self.resumed = 0.0
        self.acts: dict[str, tuple[int, Callable[[], bool]]] = {
            "scancel": (3, self._scancel),
            "requeue": (4, self._requeue),
            "node off and on": (2, self._node),
            "slurmd restart": (2, self._slurmd),
            "controller restart": (1, self._controller),
            "preemption": (3, self._preempt),
            "SIGKILL": (4, lambda: self._signal(signal.SIGKILL)),
            "SIGSTOP": (2, lambda: self._signal(signal.SIGSTOP)),
            "flaky clients": (2, self._flaky_clients),
            "launch": (3, lambda: self.launch() is not None),
            "launch killed": (1, self._launch_killed),
            "action=cancel": (1, lambda: self.launch("action=cancel") is not None),
        }

    def act(self) -> str | None:
        """Do one act, after repairs that are due. Returns its name; None if there was nothing to disturb."""
        self.repair(time.monotonic())
        self.resume_nodes()
        names = list(self.acts)
        (name,) = self.random.choices(names, [self.acts[name][0] for name in names])
        try:
            return name if self.acts[name][1]() else None
        except SlurmError:  # the controller is away, or the client flaky
            return name

    def repair(self, now: float = float("inf")) -> None:
        """Repair what has been broken for long enough."""
        due = [item for item in self.repairs if item[0] <= now]
        self.repairs = [item for item in self.repairs if item[0] > now]
        for _, action in due:
            action()

    def resume_nodes(self) -> None:
        """Resume nodes that Slurm has drained because a process did not end in time, as an administrator would."""
        if time.monotonic() < self.resumed + _RESUME_S:
            return
        self.resumed = time.monotonic()
        with suppress(SlurmError):
            for node in queue.ask("sinfo", "-h", "-N", "-p", "main", "-t", "drain", "-o", "%N").split():
                queue.ask("scontrol", "update", f"nodename={node}", "state=resume")

    def _later(self, action: Callable[[], object]) -> None:
        self.repairs.append((time.monotonic() + self.random.uniform(*_REPAIR_S), action))

    def _job(self, *states: str) -> QueuedJob | None:
        jobs = [job for job in queue.active() if job.state in states and job.name != "wrap"]
        return self.random.choice(jobs) if jobs else None

    def _scancel(self) -> bool:
        job = self._job("RUNNING", "PENDING")
        if job is not None:
            queue.cancel([job.job])
        return job is not None

    def _requeue(self) -> bool:
        job = self._job("RUNNING", "CONFIGURING")
        if job is not None:
            queue.requeue(job.job)
        return job is not None

    def _preempt(self) -> bool:
        job = self._job("RUNNING")
        if job is None:
            return False
        queue.ask("sbatch", "-p", "high", "--exclusive", "-w", job.nodes, "-t1", "-o/dev/null", "--wrap=sleep 1")
        return True

    def _number(self) -> int:
        return self.random.randint(1, self.cluster.layout.nodes)

    def _node(self) -> bool:
        number = self._number()
        self.cluster.node_off(number)
        self._later(lambda: self.restore_node(number))
        return True

    def _slurmd(self) -> bool:
        number = self._number()
        with suppress(ClusterError):  # the node is off
            self.cluster.slurmd_stop(number)
            self._later(lambda: self.restore_node(number))
            return True
        return False

    def restore_node(self, number: int) -> None:
        """Have a node on, with slurmd running."""
        try:
            self.cluster.slurmd_start(number)
        except ClusterError:  # the node is off
            self.cluster.node_on(number)

    def _controller(self) -> bool:
        self.cluster.controller_stop()
        self._later(self.cluster.controller_start)
        return True

    def _signal(self, number: signal.Signals) -> bool:
        """Send a signal to a trainer, a supervisor or an epilogue. A stopped one continues later."""
        processes = processes_in(self.runs)
        if not processes:
            return False
        process = self.random.choice(processes)
        with suppress(ProcessLookupError):
            os.kill(process, number)
        if number == signal.SIGSTOP:
            self._later(lambda: self._continue(process))
        return True

    def _continue(self, process: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)

    def _flaky_clients(self) -> bool:
        self.flaky.touch()
        self._later(lambda: self.flaky.unlink(missing_ok=True))
        return True

    def _launch_killed(self) -> bool:
        process = self.launch()
        if process is not None:
            moment = time.monotonic() + self.random.uniform(0.5, 8.0)
            self.repairs.append((moment, lambda: _kill(process)))
        return process is not None


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def write_clients(folder: Path) -> Path:
    """Write flaky clients of Slurm. They fail while the file `folder`/flaky exists. Returns their folder."""
    clients = folder / "bin"
    clients.mkdir(parents=True, exist_ok=True)
    for name in _CLIENTS:
        client = clients / name
        client.write_text(_FLAKY_CLIENT.format(flaky=folder / "flaky", real=shutil.which(name)))
        client.chmod(0o755)
    return clients


def processes_in(runs: Path) -> list[int]:
    """Processes whose working directory is a run directory, wherever it was moved."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            where = (process / "cwd").readlink()
            if where.is_relative_to(runs) and where.name.lstrip(".").startswith("seed"):
                found.append(int(process.name))
    return sorted(found)

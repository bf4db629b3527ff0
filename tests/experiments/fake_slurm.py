"""A Slurm that answers from memory, and the runs of a grid; see conftest.py for the fixtures."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import STATUS, write_json_atomic
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from experiments.planning.plan import make_plan
from experiments.planning.run_state import PlannedRun
from slurm.cli import QueuedJob, SlurmError
from slurm.submission_record import Chunk, Submission

SMOKE = ("grid=smoke", "base.pretrain=null", "cluster=local")
ARMS = ("baseline", "dla", "dsl", "both")


class FakeSlurm:
    """`jobs` are in the queue, or None if Slurm does not answer; `ends` are the states of jobs that have left it."""

    def __init__(self) -> None:
        self.jobs: list[QueuedJob] | None = []
        self.ends: dict[str, str] = {}
        self.asked: list[Any] = []

    def active(self) -> list[QueuedJob]:
        self.asked.append("active")
        if self.jobs is None:
            raise SlurmError("squeue: no answer from Slurm within 30 s; try again later")
        return self.jobs

    def max_array_size(self) -> int:
        if self.jobs is None:
            raise SlurmError("scontrol: no answer from Slurm (connect failure); try again later")
        return 1001

    def ended(self, jobs: Collection[str]) -> dict[str, str]:
        self.asked.append(sorted(jobs))
        return {job: self.ends[job] for job in jobs if job in self.ends}


class Runs:
    """The four arms of the smoke grid in a run folder; arm number k is task k of the job array 7."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        self.grid: Grid = build_grid(resolve([*SMOKE, *overrides])[0])

    def path(self, arm: str) -> Path:
        (spec,) = [spec for spec in self.grid.runs if spec.arm == arm]
        return spec.directory(self.folder)

    def submit(self, job: str | None = "7", created: float | None = None) -> None:
        runs = [self.path(arm).relative_to(self.folder).as_posix() for arm in ARMS]
        for spec in self.grid.runs:
            spec.write(spec.directory(self.folder))
        folder = self.folder / self.grid.dataset / ".slurm" / f"2026-{job}"
        folder.mkdir(parents=True)
        now = created or time.time()
        chunk = Chunk(name=f"smoke-{job}", runs=runs, job=job)
        fixed = {"command": "", "code": "", "trainer": [], "retries": {}, "stall_s": 1.0, "warning_s": 1.0}
        record = {"runs": str(self.folder), "grid": "smoke", "created": now, **fixed, "chunks": [chunk]}
        Submission(folder=folder, **record).write()

    def record(self, arm: str, outcome: str | None, job: str | None, **changes: Any) -> None:
        """A record with one attempt of the arm's run."""
        attempt = {"number": 1, "started": time.time(), "ended": None, "outcome": outcome, "job": job, "host": "here"}
        attempt |= {"nodes": "node1" if job else None, "log": "logs/attempt1.log", **changes.pop("attempt", {})}
        state = {None: "running", "done": "done"}.get(outcome, "failed")
        cause = outcome if state == "failed" else None
        status = {"state": state, "cause": cause, "message": None, "iteration": 5, "max_iterations": 20}
        status |= {"schema": 1, "heartbeat": time.time(), "attempts": [attempt], **changes}
        write_json_atomic(self.path(arm) / STATUS, status)

    def plan(self) -> dict[str, PlannedRun]:
        return {run.spec.arm: run for run in make_plan(self.grid, self.folder)}


def job(arm: str, state: str, reason: str = "None", nodes: str = "") -> QueuedJob:
    return QueuedJob(f"7_{ARMS.index(arm)}", "smoke-7", state, reason, nodes)

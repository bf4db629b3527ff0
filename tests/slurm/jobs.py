"""Jobs on the test cluster: runs of the fake trainer, submitted as the launcher submits them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dynamic_rcnn.run.files import read_json
from experiments.config.conf_files import CONF
from slurm import cli as queue
from slurm.code_snapshot import freeze
from slurm.job_arrays import arrays, begin, submit
from slurm.site_profile import Profile
from slurm.submission_record import Submission, jobs_by_run, submissions_folder
from tests.slurm.cluster import PATIENCE_S

TRAINER = Path(__file__).with_name("fake_trainer.py")
DATASET = "shapes_tiny"
RETRIES = {
    **dict.fromkeys(("time_out", "preempted", "requeued", "node_failure", "preflight"), 5),
    **dict.fromkeys(("out_of_memory", "stalled", "killed", "error"), 1),
    "nan": 0,
}


class Jobs:
    """Runs below `runs`, and the jobs that train them. The environment must have the cluster's SLURM_CONF."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def prepare(
        self,
        name: str,
        *events: dict[str, Any],
        iterations: int = 80,
        deaf: bool = False,
        hold_at: int | None = None,
    ) -> str:
        """Prepare a run of the fake trainer.

        Args:
            deaf: the trainer never handles signals.
            hold_at: iteration before which the first attempt waits until `release`.

        Returns:
            The run directory, relative to the run folder.
        """
        run = self.runs / DATASET / name / "seed0-0123456789"
        run.mkdir(parents=True)
        content = {"schema": 1, "arm": name, "seed": 0, "dataset": {}, "config": {}}
        (run / "spec.json").write_text(json.dumps(content))
        behaviour = {
            "seconds": 0.02,
            "iterations": iterations,
            "checkpoint_every": 10,
            "events": events,
            "deaf": deaf,
            "hold": hold_at and {"at": hold_at, "until": str(run.parent / "released"), "attempts": [1]},
        }
        (run / "behaviour.json").write_text(json.dumps(behaviour))
        return run.relative_to(self.runs).as_posix()

    def release(self, name: str) -> None:
        """Let a held run continue."""
        (self.runs / DATASET / name / "released").touch()

    def submit(self, runs: Sequence[str], **changes: Any) -> Submission:
        """Submit one array for the runs. Each has two nodes with two tasks, unless `changes` of the profile differ."""
        settings: Any = OmegaConf.to_container(OmegaConf.load(CONF / "cluster" / "slurm.yaml"))
        small = {"nodes": 2, "gpus_per_node": 2, "cpus_per_task": 1, "mem": "400M", "time": 10, "warning_seconds": 0}
        profile = Profile.from_dict({**settings, **small, "stall_minutes": 5, "retries": RETRIES, **changes})
        parts = arrays([], list(runs), [], [], queue.max_array_size(), None)
        folder = submissions_folder(self.runs, DATASET)
        first = begin(folder, self.runs, "test", parts, freeze(self.runs / ".code"), [str(TRAINER)], profile)
        first.folder.mkdir(parents=True)
        first.write()
        return list(submit(first, parts, profile))[-1]

    def status(self, name: str) -> dict[str, Any]:
        return read_json(self.runs / DATASET / name / "seed0-0123456789" / "status.json")

    def iteration(self, name: str) -> int:
        """The iteration in the run's record; -1 before it has begun."""
        run = self.runs / DATASET / name / "seed0-0123456789"
        return int(self.status(name)["iteration"]) if (run / "status.json").exists() else -1

    def attempts(self, name: str) -> list[tuple[str | None, int, int]]:
        """(outcome, from, to iteration) of each attempt."""
        found = self.status(name)["attempts"]
        return [(item["outcome"], item["from_iteration"], item["to_iteration"]) for item in found]

    def job(self, submission: Submission, name: str) -> queue.QueuedJob | None:
        runs = jobs_by_run([submission], queue.active())
        return runs.get(f"{DATASET}/{name}/seed0-0123456789")

    def wait_until_over(self, submission: Submission) -> None:
        names = {chunk.name for chunk in submission.chunks}
        wait_until(lambda: not any(job.name in names for job in queue.active()), every=0.5)


def wait_until(condition: Callable[[], object], every: float = 0.1) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE_S:.0f} s"
        time.sleep(every)


def fake_trainers_of(run: Path) -> list[int]:
    """Processes that have a run directory, wherever it was moved, as working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").stat().st_ino == run.stat().st_ino:
                found.append(int(process.name))
        except OSError:
            continue
    return found

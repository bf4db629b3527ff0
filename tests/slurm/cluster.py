"""A real Slurm for tests (see tests.slurm.testcluster), which the tests of a module share:

    @pytest.fixture(scope="module")
    def cluster() -> Iterator[RunningCluster]:
        with slurm_cluster(nodes=2) as cluster:
            yield cluster

On a machine that cannot run a cluster these tests are skipped, with the reason. With REQUIRE_SLURM=1 (as in CI) they
fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.errors import UserError
from tests.slurm.testcluster.cluster import Cluster, check_machine, start, stop
from tests.slurm.testcluster.config import Layout

REQUIRED = "REQUIRE_SLURM"
PATIENCE_S = 600.0  # how long a machine may take, however busy it is


class RunningCluster(Cluster):
    """A cluster with the operations that tests need."""

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of a command that uses this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_"))}
        return {**kept, **super().env}

    def run(self, *command: str, timeout: float = PATIENCE_S, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command that uses this cluster. Does not check its exit code."""
        given: dict[str, Any] = {"env": self.env, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, timeout=timeout, check=False, **{**given, **options})

    def submit(self, script: str, *options: str) -> str:
        """Submit the text of a shell script with `options` of sbatch, and discard its output. Returns the job id."""
        done = self.run(
            "sbatch", "--parsable", "--output=/dev/null", *options, input=f"#!/bin/bash\n{script}\n", stdin=None
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job` for "12" or "12_3"; {} if Slurm does not know the job."""
        words = self.run("scontrol", "show", "job", "-o", job).stdout.split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for_state(self, job: str, *states: str) -> str:
        """Wait until `job` is in one of `states`. Returns that state."""
        wait_for(lambda: self.job(job).get("JobState") in states, lambda: f"{self.job(job)}, not {states}")
        return self.job(job)["JobState"]

    def clear(self) -> None:
        """End all jobs and wait until the queue is empty."""
        self.run("scancel", "--user=root", "--signal=KILL", "--full")  # running jobs end without KillWait
        self.run("scancel", "--user=root")
        wait_for(lambda: not self.run("squeue", "-h").stdout, lambda: self.run("squeue").stdout)


def wait_for(condition: Callable[[], object], failure: Callable[[], str] | str = "") -> None:
    """Wait until `condition` is true. Fails the test with the text `failure` after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_S:.0f} s: {failure if isinstance(failure, str) else failure()}")
        time.sleep(0.1)


@contextmanager
def slurm_cluster(**settings: Any) -> Iterator[RunningCluster]:
    """Start a cluster with `settings` of Layout (nodes, cpus, gpus, accounting, max_array_size); stop it at the end."""
    require_slurm(settings.get("accounting", False))
    folder = Path(tempfile.mkdtemp(prefix="slurm-")).resolve()  # not tmp_path, which is too long
    try:
        yield RunningCluster(start(Layout(folder, **settings)).layout)
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def require_slurm(accounting: bool = False) -> None:
    """Skip the test if this machine cannot run a cluster; with REQUIRE_SLURM=1, fail it."""
    try:
        check_machine(accounting)
    except UserError as error:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"no Slurm: {error}", pytrace=False)
        pytest.skip(f"no Slurm: {error}")

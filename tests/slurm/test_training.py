"""A small ablation on a real cluster, with two nodes and two tasks per run: disturbed, and finished by launching again.

It equals an undisturbed launch on this machine bit for bit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_rcnn.run.files import read_json, read_jsonl
from dynamic_rcnn.run.train_log import TIMING
from slurm import cli as queue
from tests.slurm.cluster import RunningCluster, slurm_cluster
from tests.slurm.jobs import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]
ARMS = ("baseline", "dla", "dsl", "both")
ITERATIONS = 40
GRID = ("grid=smoke", f"base.train.max_iters={ITERATIONS}", "base.train.log_interval=1", "base.train.workers=1")
# Slurm looks at time limits every 30 s: this arm has to train for longer
DLA = "{model.train_cfg.rcnn.dynamic_rcnn.label_assignment: true, train.max_iters: 200}"
GRID += (f"++grid.arms.dla.set={DLA}",)
TWO_NODES = ("cluster=slurm", "cluster.nodes=2", "cluster.gpus_per_node=2", "cluster.cpus_per_task=1")
SITE = ("cluster.mem=6G", "cluster.time=10", "cluster.warning_seconds=30", "cluster.max_parallel=2")
EXCLUSIVE = "cluster.sbatch={exclusive: true}"  # a disturbance then hits one run

# In the place of sbatch: submits, and at its second call kills the launcher before it can write the job's id down.
KILLER = """#!/bin/bash
real={real}
if [ -e {seen} ]; then "$real" "$@" > /dev/null; kill -9 "$PPID"; exit 0; fi
touch {seen}
exec "$real" "$@"
"""


class Launcher:
    """launch.py with one run folder."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.runs = folder / "runs"
        data = f"dataset.root={folder.parent / 'shapes'}"
        self.command = [sys.executable, str(PROJECT / "experiments" / "launch.py"), *GRID, *settings]
        self.command += [f"runs={self.runs}", data]
        self.folder = folder
        folder.mkdir()

    def __call__(self, *more: str, path: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run(
            [*self.command, *more],
            capture_output=True,
            text=True,
            env={**environment, "OMP_NUM_THREADS": "1"},
            cwd=self.folder,
            timeout=900,
        )

    def status(self) -> dict[str, dict[str, Any]]:
        done = self("action=status", "json=true")
        assert done.returncode == 0, done.stderr
        return {run["arm"]: run for run in json.loads(done.stdout)["runs"]}

    def run(self, arm: str) -> Path:
        (found,) = [path for path in (self.runs / "shapes_tiny" / arm).iterdir() if path.suffix == ""]
        return found

    def outcomes(self, arm: str) -> list[str]:
        return [attempt["outcome"] for attempt in read_json(self.run(arm) / "status.json")["attempts"]]

    def iteration(self, arm: str) -> int:
        try:
            return int(read_json(self.run(arm) / "status.json")["iteration"])
        except (OSError, ValueError):
            return 0


@pytest.fixture(scope="module")
def cluster():
    with slurm_cluster(nodes=8, cpus=4) as running:
        before = dict(os.environ)
        os.environ.update(running.env)
        yield running
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Launcher:
    """The same runs (they have the same identity), trained by the local queue of this machine."""
    launcher = Launcher(tmp_path_factory.mktemp("training") / "here", "cluster=local", "cluster.processes=4")
    done = launcher("cluster.slots=1", "cluster.threads=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return launcher


def test_disturbed_in_every_way_and_finished_by_launching_again(cluster: RunningCluster, undisturbed: Launcher):
    launcher = Launcher(undisturbed.folder.parent / "cluster", *TWO_NODES, *SITE, EXCLUSIVE)
    started = time.monotonic()
    _kill_the_launcher_between_two_submissions(launcher)
    jobs = {arm: run["job"] for arm, run in launcher.status().items()}
    assert len(jobs) == 5 and all(jobs.values())
    again = launcher()
    assert again.returncode == 0 and "job " not in again.stdout.splitlines()[0], again.stdout
    assert {arm: run["job"] for arm, run in launcher.status().items()} == jobs  # nothing was submitted twice

    _disturb(launcher, cluster, jobs)
    _finish(launcher, cluster)
    assert "cancelled" in launcher.outcomes("both")
    expected = {"baseline": "preempted", "dla": "time-out", "dsl": "node failure", "both": "cancelled"}
    for arm, cause in expected.items():
        outcomes = launcher.outcomes(arm)
        assert cause in outcomes and outcomes[-1] == "done", (arm, outcomes)
    for arm in ("pretrain", *ARMS):
        _assert_same(launcher.run(arm), undisturbed.run(arm))
    attempts = {arm: launcher.outcomes(arm) for arm in ("pretrain", *ARMS)}
    print(f"{time.monotonic() - started:.0f} s: {attempts}")


def _kill_the_launcher_between_two_submissions(launcher: Launcher) -> None:
    folder = launcher.folder / "bin"
    folder.mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    script = folder / "sbatch"
    script.write_text(KILLER.format(real=real, seen=folder / "seen"))
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    killed = launcher(path=str(folder))
    assert killed.returncode == -signal.SIGKILL
    assert len(re.findall(r"^job \d+", killed.stdout, re.MULTILINE)) == 1


def _disturb(launcher: Launcher, cluster: RunningCluster, jobs: dict[str, str]) -> None:
    """Disturb each arm's job as soon as it trains."""
    left = set(ARMS)
    deadline = time.monotonic() + PATIENCE_S
    while left:
        assert time.monotonic() < deadline, left
        for arm in [arm for arm in left if launcher.iteration(arm) >= 6]:
            left.remove(arm)
            nodes = next(job.nodes for job in queue.active() if job.job == jobs[arm])
            _DISTURBANCES[arm](cluster, jobs[arm], nodes)
        time.sleep(0.2)
    wait_until(lambda: "time-out" in launcher.outcomes("dla"))
    queue.ask("scontrol", "update", f"jobid={jobs['dla']}", "TimeLimit=10")  # a requeued job keeps its limit


def _preempt(cluster: RunningCluster, job: str, nodes: str) -> None:
    queue.ask("sbatch", "-p", "high", "-w", nodes, "-N2", "--exclusive", "-t1", "-o/dev/null", "--wrap=sleep 2")


def _time_out(cluster: RunningCluster, job: str, nodes: str) -> None:
    queue.ask("scontrol", "update", f"jobid={job}", "TimeLimit=1")


def _stop_a_node(cluster: RunningCluster, job: str, nodes: str) -> None:
    last = queue.ask("scontrol", "show", "hostnames", nodes).split()[-1]
    cluster.node_off(int(last.removeprefix("node")))


def _cancel(cluster: RunningCluster, job: str, nodes: str) -> None:
    queue.cancel([job])


_DISTURBANCES = {"baseline": _preempt, "dla": _time_out, "dsl": _stop_a_node, "both": _cancel}


def _finish(launcher: Launcher, cluster: RunningCluster) -> None:
    """Launch again until all runs are done."""
    for _ in range(5):
        wait_until(lambda: not any(run["state"] in ("queued", "running") for run in launcher.status().values()), 2)
        if all(run["state"] == "done" for run in launcher.status().values()):
            return
        done = launcher()
        assert done.returncode == 0, done.stdout + done.stderr
    raise AssertionError(launcher("action=status").stdout)


def _wait_or_show(condition: Callable[[], object], runs: Path) -> None:
    """Like `wait_until`; on a failure, print the trainers' logs and where each of them hangs."""
    try:
        wait_until(condition)
    except AssertionError:
        subprocess.run(["pkill", "-ABRT", "-f", "dynamic_rcnn.train"], check=False)
        time.sleep(2)
        for log in sorted(runs.glob("*/*/seed*/logs/*")):
            print(f"--- {log}\n{log.read_text(errors='replace')[-20000:]}")
        raise


def _assert_same(run: Path, reference: Path) -> None:
    assert run.name == reference.name  # the same identity
    weights, expected = (
        torch.load(folder / "checkpoints" / "weights.pth", weights_only=True)["state_dict"]
        for folder in (run, reference)
    )
    assert [name for name in expected if not torch.equal(weights[name], expected[name])] == []
    for name in ("metrics.json", *(["detections.json.gz"] if run.parent.name != "pretrain" else [])):
        assert (run / name).read_bytes() == (reference / name).read_bytes(), name
    curves = [
        [{key: value for key, value in row.items() if key not in TIMING} for row in read_jsonl(folder / "train.jsonl")]
        for folder in (run, reference)
    ]
    assert curves[0] == curves[1]


def test_begun_on_slurm_and_finished_here_and_the_other_way_round(cluster: RunningCluster, undisturbed: Launcher):
    folder = undisturbed.folder.parent / "both_ways"
    one = "arms=[both]"
    slurm = Launcher(folder, *TWO_NODES, *SITE, EXCLUSIVE, one)
    local = Launcher(undisturbed.folder.parent / "unused", "cluster=local", "cluster.processes=4", one)
    local.runs = slurm.runs
    local.command[-2] = f"runs={slurm.runs}"
    assert slurm().returncode == 0
    wait_until(lambda: slurm.iteration("pretrain") >= 4)
    assert slurm("action=cancel").returncode == 0
    wait_until(lambda: not queue.active())
    process = subprocess.Popen(local.command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _wait_or_show(lambda: local.iteration("both") >= 6, slurm.runs)
    process.send_signal(signal.SIGINT)
    assert process.wait(600) == 130
    assert slurm().returncode == 0
    wait_until(lambda: not queue.active())
    assert slurm.outcomes("pretrain")[-1] == slurm.outcomes("both")[-1] == "done"
    assert len(slurm.outcomes("pretrain")) >= 2 and len(slurm.outcomes("both")) >= 2
    for arm in ("pretrain", "both"):
        _assert_same(slurm.run(arm), undisturbed.run(arm))


def test_a_node_that_fails_the_check_is_left_out_and_the_run_ends_on_others(cluster: RunningCluster, tmp_path: Path):
    """The cluster's GPUs are not real: torch does not see them."""
    site = ("cluster=slurm", "cluster.cpus_per_task=1", *SITE, "cluster.preflight=true")
    launcher = Launcher(tmp_path / "checked", *site, "base.pretrain=null", "arms=[baseline]")
    done = launcher("cluster.gpus_per_node=1")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: not queue.active(), every=0.5)
    status = read_json(launcher.run("baseline") / "status.json")
    (bad,) = {attempt["bad_node"] for attempt in status["attempts"]}
    assert status["cause"] == "preflight failed" and [each["nodes"] for each in status["attempts"]] == [bad] * 3
    assert status["message"] == (
        f"{bad}: Slurm allocated GPUs (1), and torch sees none; "
        "retried 2 times, as often as cluster.retries.preflight allows"
    )

    done = launcher("cluster.nodes=2", "cluster.gpus_per_node=0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"nodes left out for faults in the last 7 days: {bad} (3 failures); " in done.stderr
    wait_until(lambda: not queue.active(), every=0.5)
    last = read_json(launcher.run("baseline") / "status.json")["attempts"][-1]
    assert last["outcome"] == "done" and bad not in re.findall(r"\w+", last["nodes"])
    (note,) = [note for note in last["notes"] if note.startswith("preflight of ")]
    assert "2 processes reach each other, the matrix product on cpu is right" in note

"""launch.py on a real cluster, with a trainer without torch."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from experiments import launch
from experiments.launching import slurm as launching
from experiments.planning.run_state import code_now
from slurm import cli as queue
from tests.slurm.cluster import RunningCluster, slurm_cluster
from tests.slurm.jobs import PATIENCE_S, TRAINER, wait_until

PROJECT = Path(__file__).resolve().parents[2]
WITH_FAKE_TRAINER = f"""
import sys
sys.path.insert(0, sys.argv.pop(1))
from experiments.launching import slurm as cluster
from experiments.launch import main
cluster.TRAINER = ({str(TRAINER)!r},)
sys.exit(main(sys.argv[1:]))
"""
SMALL = ("grid=smoke", "base.pretrain=null", "dataset.recipe.train_images=2", "dataset.recipe.val_images=1")
SITE = ("cluster=slurm", "cluster.cpus_per_task=1", "cluster.mem=400M", "cluster.gpus_per_node=1", "cluster.time=5")


class Launcher:
    """launch.py with the fake trainer and its own run folder.

    project: another copy of the code. It is launched in its own process, as is a launch with another PATH.
    """

    def __init__(self, folder: Path, project: Path = PROJECT) -> None:
        self.folder, self.project, self.runs = folder, project, folder / "runs"

    def __call__(self, *more: str, hold: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        """Launch. hold: the runs wait in the middle until `release`."""
        folders = (f"runs={self.runs}", f"dataset.root={self.folder / 'shapes'}")
        behaviour: dict[str, Any] = {"seconds": 0.01, "iterations": 20, "checkpoint_every": 5}
        if hold:
            behaviour["hold"] = {"at": 8, "until": str(self.folder / "released"), "attempts": [1]}
        fake = {"FAKE_TRAINER": json.dumps(behaviour), "FAKE_CODE": code_now(), "COLUMNS": "300"}
        arguments = [*SMALL, *SITE, *folders, *more]
        if self.project == PROJECT and "PATH" not in environment:
            return self._launch_here(arguments, {**fake, **environment})
        return subprocess.run(
            [sys.executable, "-c", WITH_FAKE_TRAINER, str(self.project), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **fake, **environment},
            cwd=self.folder,
            timeout=PATIENCE_S,
        )

    def _launch_here(self, arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(launching, "TRAINER", (str(TRAINER),))
            patch.chdir(self.folder)
            for name, value in environment.items():
                patch.setenv(name, value)
            code = launch.main(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def release(self) -> None:
        (self.folder / "released").touch()

    def states(self, *more: str) -> list[str]:
        done = self("action=status", "json=true", *more)
        assert done.returncode == 0, done.stderr
        return [run["state"] for run in json.loads(done.stdout)["runs"]]

    def wait(self) -> None:
        wait_until(lambda: not queue.active(), every=0.5)


@pytest.fixture
def launcher(cluster: RunningCluster, tmp_path: Path) -> Launcher:
    return Launcher(tmp_path)


def test_submitted_seen_done_and_not_submitted_again(launcher):
    planned = launcher("action=plan")
    assert planned.returncode == 0 and "4 runs (4 arms x 1 seeds): 4 new" in planned.stdout
    assert not launcher.runs.exists()
    first = launcher(hold=True)  # it does not wait for the runs, which are not done before their release
    assert first.returncode == 0, first.stderr
    (job,) = re.findall(r"^job (\d+): 4 runs, 4 at a time$", first.stdout, re.MULTILINE)
    assert set(launcher.states()) <= {"queued", "running"}
    second = launcher()
    assert second.returncode == 0 and "job " not in second.stdout.splitlines()[0]
    launcher.release()
    launcher.wait()
    assert set(launcher.states()) == {"done"}
    table = launcher("action=status").stdout
    assert f"{job}_3" in table and "node" in table
    third = launcher()
    assert (third.returncode, re.findall(r"^job ", third.stdout, re.MULTILINE)) == (0, [])
    assert len(list(launcher.runs.glob("shapes_tiny/.slurm/*/submission.json"))) == 1


def test_what_was_submitted_is_what_runs(cluster, tmp_path):
    """The code is broken while one job runs and the other waits for its turn."""
    project = tmp_path / "project"
    for name in ("dynamic_rcnn", "experiments", "slurm"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    launcher = Launcher(tmp_path, project)
    submitted = launcher("arms=[dla,dsl]", "cluster.max_parallel=1", hold=True)
    assert submitted.returncode == 0, submitted.stderr
    broken = project / "dynamic_rcnn" / "run" / "directory.py"
    broken.write_text("raise SystemExit('edited')\n")
    launcher.release()
    launcher.wait()
    assert Launcher(tmp_path).states("arms=[dla,dsl]") == ["done", "done"]


def test_a_replay_waits_for_the_run_that_it_replays(launcher):
    """There is room for both at once."""
    arm = "++grid.arms.replay={title: the end point of both, set: {}, replay: both}"
    submitted = launcher(arm, "arms=[both,replay]", "cluster.max_parallel=4", hold=True)
    assert submitted.returncode == 0, submitted.stderr
    assert len(re.findall(r"^job ", submitted.stdout, re.MULTILINE)) == 2
    assert launcher.states(arm, "arms=[both,replay]").count("done") == 0
    launcher.release()
    launcher.wait()
    assert launcher.states(arm, "arms=[both,replay]") == ["done", "done"]
    first, second = (
        json.loads(next(launcher.runs.glob(f"shapes_tiny/{name}/seed0-*/status.json")).read_text())["attempts"]
        for name in ("both", "replay")
    )
    assert second[0]["started"] >= first[-1]["ended"]


def running_jobs() -> int:
    return sum(job.state == "RUNNING" for job in queue.active())


@pytest.mark.slow
def test_one_cap_over_several_arrays(tmp_path, monkeypatch):
    with slurm_cluster(nodes=2, max_array_size=3) as small:
        for name, value in small.env.items():
            monkeypatch.setenv(name, value)
        launcher = Launcher(tmp_path)
        submitted = launcher("seeds=[0,1]", "cluster.max_parallel=2", hold=True)
        assert submitted.returncode == 0, submitted.stderr
        assert re.findall(r": (\d) runs, (\d) at a time", submitted.stdout) == [("3", "1"), ("3", "1"), ("2", "1")]
        wait_until(lambda: running_jobs() == 2)
        launcher.release()
        while queue.active():
            assert running_jobs() <= 2
            time.sleep(0.1)
        assert launcher.states("seeds=[0,1]") == ["done"] * 8


@pytest.mark.slow
def test_a_launcher_killed_after_sbatch_has_lost_nothing(launcher):
    folder = launcher.folder / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(f'#!/bin/bash\n{shutil.which("sbatch")} "$@" > /dev/null\nkill -9 $PPID\n')
    (folder / "sbatch").chmod(0o755)
    killed = launcher(hold=True, PATH=f"{folder}:{os.environ['PATH']}")
    assert killed.returncode == -9
    (file,) = launcher.runs.glob("shapes_tiny/.slurm/*/submission.json")
    assert json.loads(file.read_text())["chunks"][0]["job"] is None
    assert set(launcher.states()) <= {"queued", "running"}
    again = launcher()
    assert (again.returncode, re.findall(r"^job ", again.stdout, re.MULTILINE)) == (0, [])
    launcher.release()
    launcher.wait()
    assert launcher.states() == ["done"] * 4


def test_cancelled_and_launched_again(launcher):
    assert launcher(hold=True).returncode == 0
    wait_until(lambda: running_jobs() == 4)
    wait_until(lambda: launcher.states() == ["running"] * 4)
    cancelled = launcher("action=cancel")
    assert cancelled.returncode == 0 and cancelled.stdout.count("job ") == 4
    launcher.wait()
    assert launcher.states() == ["failed"] * 4
    assert "cancelled: the job was cancelled (scancel)" in launcher("action=status").stdout
    assert "logs/attempt1.log" in launcher("action=logs", "run=dla/seed0").stdout
    assert launcher().returncode == 0
    launcher.wait()
    assert launcher.states() == ["done"] * 4


def test_launched_at_once_after_a_cancel(launcher):
    """The cancelled jobs are still writing their checkpoints."""
    assert launcher(hold=True).returncode == 0
    wait_until(lambda: launcher.states() == ["running"] * 4)
    assert launcher("action=cancel").returncode == 0
    again = launcher()
    assert again.returncode == 0 and ": 4 runs, 4 at a time" in again.stdout
    launcher.wait()
    assert launcher.states() == ["done"] * 4


def test_refused_by_slurm_is_one_line_and_nothing_is_lost(launcher):
    refused = launcher("cluster.partition=nowhere")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1 and "invalid partition specified: nowhere" in refused.stderr
    assert launcher.states() == ["new"] * 4
    assert list(launcher.runs.glob("shapes_tiny/.slurm/*")) == [launcher.runs / "shapes_tiny" / ".slurm" / "lock"]
    assert launcher("cluster.partition=main", FAKE_CODE="older").returncode == 0
    launcher.wait()
    assert launcher.states() == ["stale"] * 4
    refused = launcher("rerun=stale", "cluster.partition=nowhere")
    assert refused.returncode == 2 and refused.stdout.count("moved back") == 4
    assert launcher.states() == ["stale"] * 4
    assert launcher("rerun=stale").returncode == 0
    launcher.wait()
    assert launcher.states() == ["done"] * 4


def test_a_folder_that_slurm_cannot_write_to(launcher):
    for name in ("a%j", "a\\b"):
        launcher.runs = launcher.folder / name
        refused = launcher()
        assert refused.returncode == 2 and "cannot write to a folder with" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1 and not launcher.runs.exists()


def test_a_damaged_submission_is_named_and_the_states_are_shown(launcher):
    assert launcher("arms=[dla]").returncode == 0
    (file,) = launcher.runs.glob("shapes_tiny/.slurm/*/submission.json")
    whole = file.read_text()
    launcher.wait()
    for text in ("{", "[]", '{"schema": 1}', whole.replace('"runs": [', '"runs": 5, "x": [')):
        file.write_text(text)
        refused = launcher()
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
        assert "submission.json" in refused.stderr and "then move that folder away" in refused.stderr
        shown = launcher("action=status")
        assert shown.returncode == 0 and "dla/seed0" in shown.stdout and "submission.json" in shown.stdout


@pytest.mark.slow
def test_slurm_does_not_answer(launcher, cluster):
    """States are those on disk, launching refuses, and the jobs go on."""
    assert launcher("arms=[dla]", hold=True).returncode == 0
    wait_until(lambda: launcher.states("arms=[dla]") == ["running"])
    cluster.controller_stop()
    try:
        status = launcher("arms=[dla]", "action=status")
        assert status.returncode == 0 and "states are those on disk" in status.stdout + status.stderr
        launched = launcher("arms=[dla,dsl]")
        assert launched.returncode == 2 and len(launched.stderr.splitlines()) == 1, launched.stderr
    finally:
        cluster.controller_start()
    launcher.release()
    launcher.wait()
    assert launcher.states("arms=[dla]") == ["done"]


def test_the_commands_in_the_documentation(launcher, monkeypatch):
    page = (PROJECT / "docs/slurm.md").read_text()
    commands = re.findall(r"^(python experiments/launch.py .*cluster=slurm.*?)(?:   #.*)?$", page, re.MULTILINE)
    assert len(commands) == 3
    data = [f"runs={launcher.runs}", "dataset=shapes_tiny", f"dataset.root={launcher.folder / 'shapes'}"]
    for command in commands:
        words = [word for word in shlex.split(command)[1:] if not word.startswith("dataset")]
        words = [word.replace("partition=gpu", "partition=main") for word in words]
        done = subprocess.run(
            [sys.executable, *words, *data, "cluster.mem=400M", "cluster.cpus_per_task=1"],
            capture_output=True,
            text=True,
            cwd=PROJECT,
        )
        assert done.returncode == 0, done.stderr
        if "action=plan" in words:
            assert "GPU-hours" in done.stdout
        elif "action=script" in words:
            assert "#SBATCH --partition=main" in done.stdout and not launcher.runs.exists()
        else:
            assert re.findall(r"^job \d+", done.stdout, re.MULTILINE)
    queue.cancel([job.job for job in queue.active()])


def test_a_sites_own_file(launcher, tmp_path):
    """The example in docs/slurm.md, as a file beside slurm.yaml in a copy of the project."""
    project = tmp_path / "project"
    for name in ("dynamic_rcnn", "experiments", "slurm"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    page = (PROJECT / "docs/slurm.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (project / "experiments" / "conf" / "cluster" / "mysite.yaml").write_text(example)
    words = ("grid=smoke", "cluster=mysite", "action=script", f"runs={tmp_path / 'runs'}")
    command = [sys.executable, str(project / "experiments" / "launch.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(project)})
    assert done.returncode == 0, done.stderr
    for flag in ("account=vision", "constraint=a100", "time=1440", "mem=120G", "reservation=spring"):
        assert f"#SBATCH --{flag}" in done.stdout
    assert "\nmodule load cuda/12.4\n" in done.stdout


@pytest.mark.slow
def test_with_accounting(tmp_path, monkeypatch):
    """sacct tells of jobs that the controller has forgotten."""
    with slurm_cluster(nodes=2, accounting=True) as accounted:
        for name, value in accounted.env.items():
            monkeypatch.setenv(name, value)
        launcher = Launcher(tmp_path)
        assert launcher("arms=[dla]", hold=True).returncode == 0
        (job,) = [job.job for job in queue.active()]
        launcher.release()
        launcher.wait()
        assert launcher.states("arms=[dla]") == ["done"]
        wait_until(lambda: "COMPLETED" in queue.ask("sacct", "-n", "-X", "-P", "-o", "State", "-j", job))
        monkeypatch.setattr(queue, "_jobs", lambda text: [])  # the controller has forgotten it
        assert queue.ended([job]) == {job: "COMPLETED"}

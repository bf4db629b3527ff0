"""The test cluster itself: it starts, loses nodes, and stops without leaving anything behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import PATIENCE_S, REQUIRED, RunningCluster, require_slurm, slurm_cluster, wait_for
from tests.slurm.testcluster import cluster as clusters
from tests.slurm.testcluster import namespaces
from tests.slurm.testcluster.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]
NAMES = "127.0.0.1       localhost controller node1 node2 node3 node4"
TASK = 'trap "echo warned" USR2; echo "attempt ${SLURM_RESTART_COUNT:-0}"; while :; do sleep 0.1; done'


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with slurm_cluster(nodes=4, max_array_size=17) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a cluster that the test starts with the command. It is stopped at the end of the test."""
    require_slurm()
    path = Path(tempfile.mkdtemp(prefix="slurm-")).resolve()
    path.rmdir()
    yield path
    clusters.stop(path)


@pytest.fixture(scope="module")
def disturbed(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    """Two jobs, (id, output), at once because both take time: "preempted"; "lost", whose second node loses power."""
    logs = tmp_path_factory.mktemp("disturbed")
    jobs = {}
    for name, nodes in {"preempted": ["--nodelist=node1"], "lost": ["-N2", "--exclude=node1"]}.items():
        output = [f"--output={logs / name}", "--open-mode=append"]
        jobs[name] = (run_task(cluster, logs / name, *nodes, *output, "--gpus-per-node=8"), logs / name)
    assert cluster.job(jobs["lost"][0])["NodeList"] == "node[2-3]"
    cluster.run("scontrol", "update", "PartitionName=main", "GraceTime=3")  # 20 as configured
    cluster.submit("sleep 1", "--partition=high", "--nodelist=node1", "--gpus-per-node=8")
    cluster.node_off(3)
    return jobs


def run_task(cluster: RunningCluster, log: Path, *options: str) -> str:
    """The id of a job with TASK on each of its nodes, all of which have begun."""
    job = cluster.submit(f"srun sh -c '{TASK}'", "--signal=USR2@60", *options)
    cluster.wait_for_state(job, "RUNNING")
    nodes = int(cluster.job(job)["NumNodes"].split("-")[0])
    wait_for(lambda: log.exists() and log.read_text().count("attempt 0") == nodes, f"job {job} does not begin")
    return job


def command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tests.slurm.testcluster", *arguments]
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S, env=env, check=False)


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes of the machine that name `folder`, there or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words + environ:
            found.append(words.decode().replace("\0", " "))
    return found


def test_all_nodes_are_idle_at_once_and_settings_hold(cluster: RunningCluster) -> None:
    assert cluster.run("sinfo", "-h", "-p", "main", "-o", "%T %D %c %G").stdout == "idle 4 16 gpu:fake:8\n"
    assert set(cluster.run("sinfo", "-h", "-o", "%R").stdout.split()) == {"high", "main"}
    assert "MaxArraySize            = 17\n" in cluster.run("scontrol", "show", "config").stdout


def test_steps_run_on_two_nodes_which_know_each_other(cluster: RunningCluster, tmp_path: Path) -> None:
    ask = ["srun", "-N2", "sh", "-c", "hostname; getent hosts node3"]
    expected = ["node1", "node2", *[NAMES] * 2]
    assert sorted(cluster.run(*ask).stdout.splitlines()) == sorted(expected)
    job = cluster.submit("srun hostname", "-N2", f"--output={tmp_path}/log")
    cluster.wait_for_state(job, "COMPLETED")
    assert sorted((tmp_path / "log").read_text().split()) == expected[:2]


def test_jobs_get_gpus_of_their_own_and_no_more_than_there_are(cluster: RunningCluster, tmp_path: Path) -> None:
    script = f"echo $CUDA_VISIBLE_DEVICES; while [ ! -e {tmp_path}/released ]; do sleep 0.1; done"
    jobs = [cluster.submit(script, "-w", "node4", "--gpus-per-node=2", f"--output={tmp_path}/%j") for _ in range(2)]
    for job in jobs:
        cluster.wait_for_state(job, "RUNNING")
    (tmp_path / "released").touch()
    for job in jobs:
        cluster.wait_for_state(job, "COMPLETED")
    assert sorted((tmp_path / job).read_text() for job in jobs) == ["0,1\n", "2,3\n"]
    refused = cluster.run("srun", "--gpus-per-node=9", "true")
    assert refused.returncode != 0 and "Requested node configuration is not available" in refused.stderr


def test_a_preempted_job_is_warned_and_runs_again(
    cluster: RunningCluster, disturbed: dict[str, tuple[str, Path]]
) -> None:
    job, log = disturbed["preempted"]
    wait_for(lambda: "attempt 1" in log.read_text(), lambda: f"{cluster.job(job)} {log.read_text()}")
    text = log.read_text()
    assert text.index("attempt 0") < text.index("warned") < text.index("DUE TO PREEMPTION") < text.index("attempt 1")
    assert cluster.job(job)["Restarts"] == "1"


def test_a_job_that_lost_a_node_runs_again_elsewhere(
    cluster: RunningCluster, disturbed: dict[str, tuple[str, Path]]
) -> None:
    job, log = disturbed["lost"]
    wait_for(lambda: log.read_text().count("attempt 1") == 2, lambda: f"{cluster.job(job)} {log.read_text()}")
    assert "DUE TO NODE FAILURE" in log.read_text()
    assert cluster.job(job)["Restarts"] == "1" and cluster.job(job)["NodeList"] == "node[2,4]"
    assert cluster.run("sinfo", "-h", "-p", "main", "-n", "node3", "-o", "%T").stdout == "down*\n"
    cluster.node_on(3)
    cluster.clear()
    wait_for(lambda: "idle 4" in cluster.run("sinfo", "-h", "-p", "main", "-o", "%T %D").stdout)


def test_jobs_outlive_their_slurmd_and_the_controller(cluster: RunningCluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = cluster.submit("while :; do echo; sleep 0.1; done", "-w", "node4", f"--output={log}")
    cluster.wait_for_state(job, "RUNNING")
    cluster.controller_stop()
    cluster.slurmd_stop(4)
    assert "is DOWN" in cluster.run("scontrol", "ping").stdout
    lines = log.read_text().count("\n")
    wait_for(lambda: log.read_text().count("\n") > lines + 5, "the job does not go on")
    cluster.slurmd_start(4)
    cluster.controller_start()
    state = cluster.job(job)
    assert (state["JobState"], state["Restarts"]) == ("RUNNING", "0")
    cluster.clear()


def test_two_clusters_side_by_side_and_nothing_stays_of_one(cluster: RunningCluster, folder: Path) -> None:
    started = command("start", "nodes=1", "cpus=2", "gpus=0", f"folder={folder}")
    assert started.returncode == 0, started.stderr
    shown = command("env", f"folder={folder}").stdout
    assert shown == f"export SLURM_CONF={folder}/etc/slurm.conf\n" and started.stdout.endswith(shown)
    env = {**cluster.env, "SLURM_CONF": f"{folder}/etc/slurm.conf"}
    assert cluster.run("sinfo", "-h", "-p", "main", "-o", "%T %D %c", env=env).stdout == "idle 1 2\n"
    assert "\nnode1 " in command("status", f"folder={folder}").stdout
    assert command("start", f"folder={folder}").returncode == 2
    waits = subprocess.Popen(["srun", "sleep", "300"], env=env)
    wait_for(lambda: "sleep" in cluster.run("squeue", "-h", env=env).stdout)
    assert len(processes_of(folder)) > 5
    assert command("stop", f"folder={folder}").stdout == f"{folder}: stopped and removed\n"
    assert waits.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    assert (processes_of(folder), folder.exists()) == ([], False)
    assert command("stop", f"folder={folder}").stdout == f"{folder}: no test cluster there\n"
    assert command("status", f"folder={folder}").returncode == 1
    assert cluster.run("srun", "hostname").stdout.startswith("node")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_of_a_start_that_is_stopped_half_way(folder: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "tests.slurm.testcluster", "start", "nodes=40", f"folder={folder}"]
    process = subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.DEVNULL)
    wait_for(lambda: (folder / "log/slurmd.node2.log").exists(), "the second node does not start")
    process.send_signal(number)
    assert process.wait(timeout=PATIENCE_S) == (130 if number == signal.SIGTERM else -number)
    if number == signal.SIGKILL:
        assert command("stop", f"folder={folder}").returncode == 0
    assert (processes_of(folder), folder.exists()) == ([], False)


def test_nothing_stays_of_a_start_that_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "slurmctld").write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    (tmp_path / "slurmctld").chmod(0o755)
    failed = command("start", f"folder={folder}", env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert (failed.returncode, failed.stderr) == (1, "testcluster: slurmctld: exit code 3: no such luck\n")
    assert (processes_of(folder), folder.exists()) == ([], False)


def test_a_folder_that_no_start_made_is_left_alone(tmp_path: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    assert command("stop", f"folder={folder}").stdout == f"{folder}: no test cluster there\n"
    refused = command("start", f"folder={folder}")
    assert refused.returncode == 2 and "exists and is not empty" in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
    (folder / "thesis.tex").unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["begin"], "unknown action 'begin'; valid: "),
        (["start", "node=3", "x=1"], "unknown setting 'node', 'x' in start; valid: accounting, cpus, folder, gpus, "),
        (["start", "3"], "start takes only settings of the form name=value, not '3'"),
        (["start", "nodes=0"], "nodes '0': must be a whole number from 1 to 79"),
        (["start", "gpus=many"], "gpus 'many': must be a whole number from 0 to 64"),
        (["start", "accounting=yes"], "accounting 'yes': must be true or false"),
        (["start", f"folder=/tmp/{'x' * 70}"], "must be absolute, of at most 70 characters: letters, "),
        (["start", "folder=/tmp/my cluster"], "choose another folder="),
        (["stop", "nodes=3"], "unknown setting 'nodes' in stop; valid: folder"),
        (["node-off", "folder=/tmp/no-cluster"], "node-off takes the number of one node, not 'nothing'"),
        (["node-off", "1", "folder=/tmp/no-cluster"], "/tmp/no-cluster: no test cluster runs there; start one, or "),
        (["env", "folder=/tmp/no-cluster"], "/tmp/no-cluster: no test cluster runs there; start one, or "),
    ],
)
def test_bad_arguments_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(clusters, "check_machine", lambda accounting: None)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("testcluster: ") and said.err.count("\n") == 1
    assert message in said.err


def test_a_node_that_does_not_exist(cluster: RunningCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node-off", "5", f"folder={cluster.folder}"]) == 2
    assert capsys.readouterr().err == "testcluster: node '5': must be a whole number from 1 to 4\n"


def test_a_machine_that_can_run_no_cluster_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(REQUIRED, raising=False)
    with monkeypatch.context() as user:
        user.setattr(os, "geteuid", lambda: 1000)
        assert main(["start", f"folder={tmp_path}/x"]) == 2
        assert "needs root, for its namespaces and slurmd; this is user 1000" in capsys.readouterr().err
        with pytest.raises(pytest.skip.Exception, match="needs root"):
            require_slurm()
        user.setenv(REQUIRED, "1")
        with pytest.raises(pytest.fail.Exception, match=r"no Slurm: .*needs root"):
            require_slurm()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "_PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"slurmctld, .* Debian has them: apt-get install slurm"):
        require_slurm()


@pytest.mark.slow
def test_with_accounting_sacct_knows_what_a_job_had() -> None:
    with slurm_cluster(nodes=1, accounting=True) as cluster:
        job = cluster.submit("exit 3", "--gpus-per-node=2")
        ask = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,ExitCode,AllocTRES")
        wait_for(lambda: "FAILED" in cluster.run(*ask).stdout, lambda: str(cluster.run(*ask)))
        assert cluster.run(*ask).stdout.startswith("FAILED|3:0|") and "gres/gpu=2" in cluster.run(*ask).stdout
        folder = cluster.folder
    assert (processes_of(folder), folder.exists()) == ([], False)

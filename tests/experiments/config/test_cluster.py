"""Where runs happen: what cluster=auto chooses and prints, and how the cluster sets the processes of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamic_rcnn.errors import UserError
from experiments.config import cluster as executor
from experiments.config.build import build_grid
from experiments.config.cluster import choose_executor
from experiments.config.compose import resolve

UP = "echo 'Slurmctld(primary) at head is UP'"
DOWN = "echo 'Slurmctld(primary) at head is DOWN'"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_slurm_is_not_asked_if_there_is_no_sbatch(commands: Path, tmp_path: Path) -> None:
    put(commands, "scontrol", f"/usr/bin/touch {tmp_path / 'asked'}; {UP}")
    assert choose_executor() == ("local", "sbatch is not on the PATH; runs take turns in slots of this machine")
    assert not (tmp_path / "asked").exists()


def test_slurm_is_chosen_if_it_answers(commands: Path) -> None:
    put(commands, "sbatch", "")
    put(commands, "scontrol", UP)
    config, chosen = resolve(["grid=smoke", "cluster.time=600", "cluster.setup=[module load x]"])
    assert chosen[0].startswith("cluster=slurm: sbatch is on the PATH, and Slurm answers")
    assert (config.cluster.name, config.cluster.time, config.cluster.setup) == ("slurm", 600, ["module load x"])
    assert not hasattr(config.cluster, "slots")
    with pytest.raises(
        UserError, match=r"cluster\.slots=2: unknown setting 'slots' in cluster=slurm, which was chosen"
    ):
        resolve(["grid=smoke", "cluster.slots=2"])


@pytest.mark.parametrize(
    ("scontrol", "message"),
    [
        (DOWN, "scontrol ping: Slurmctld(primary) at head is DOWN"),
        (f"{DOWN}; exit 1", "scontrol ping: Slurmctld(primary) at head is DOWN"),
        ("echo 'scontrol: error: no config' >&2; exit 1", "scontrol ping: error: no config"),
        ("exit 1", "scontrol ping failed"),
        ("exec /bin/sleep 30", "scontrol ping: no answer within"),
        (None, "scontrol: No such file or directory"),
    ],
)
def test_this_machine_is_chosen_if_slurm_does_not_answer(
    commands: Path, monkeypatch: pytest.MonkeyPatch, scontrol: str | None, message: str
) -> None:
    monkeypatch.setattr(executor, "_PING_S", 0.5)
    put(commands, "sbatch", "")
    if scontrol is not None:
        put(commands, "scontrol", scontrol)
    found, why = choose_executor()
    assert found == "local"
    assert why.startswith(f"sbatch is on the PATH, but Slurm does not answer ({message}")
    assert why.endswith("cluster=slurm requires it")


def test_settings_of_slurm_are_refused_if_this_machine_was_chosen(commands: Path) -> None:
    config, chosen = resolve(["grid=smoke", "cluster.slots=2"])
    assert chosen == ["cluster=local: sbatch is not on the PATH; runs take turns in slots of this machine"]
    assert config.cluster.model_dump() == {
        "name": "local",
        "executor": "local",
        "processes": None,
        "slots": 2,
        "threads": None,
    }
    with pytest.raises(UserError) as error:
        resolve(["grid=smoke", "cluster.account=x"])
    assert "unknown setting 'account' in cluster=local, which was chosen because sbatch is not on" in str(error.value)


def processes(*overrides: str) -> int:
    return {run.processes for run in build_grid(resolve(["grid=smoke", *overrides])[0]).all_runs}.pop()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["cluster=local"], 1),
        (["cluster=local", "cluster.processes=2"], 2),
        (["cluster=slurm"], 1),
        (["cluster=slurm", "cluster.gpus_per_node=2"], 2),
        (["cluster=slurm", "cluster.gpus_per_node=0"], 1),
        (["cluster=slurm", "cluster.gpus_per_node=0", "cluster.nodes=2"], 2),
        (["cluster=slurm", "cluster.gpus_per_node=1", "cluster.nodes=2"], 2),
    ],
)
def test_the_cluster_sets_the_processes_of_every_run(overrides: list[str], expected: int) -> None:
    assert processes(*overrides) == expected


def test_null_means_the_published_processes_on_slurm_and_one_locally() -> None:
    published = ["base=faster_rcnn_r50_fpn_1x", "grid=ablation", "dataset=shapes"]
    config, chosen = resolve([*published, "cluster=slurm"])
    assert (config.cluster.gpus_per_node, config.base["train"]["processes"], chosen) == (8, 8, [])
    config, chosen = resolve([*published, "cluster=slurm", "cluster.nodes=2"])
    assert (config.cluster.gpus_per_node, config.base["train"]["processes"], chosen) == (4, 8, [])
    config, chosen = resolve([*published, "cluster=slurm", "cluster.gpus_per_node=4"])
    line = "cluster.processes={}: each process trains {} of the 8 groups (base faster_rcnn_r50_fpn_1x: 8 processes)"
    assert config.base["train"]["processes"] == 4 and chosen == [line.format(4, 2)]
    config, chosen = resolve([*published, "cluster=local"])
    assert config.base["train"]["processes"] == 1 and chosen == [line.format(1, 8)]


def test_any_processes_are_the_same_runs_here_and_on_slurm() -> None:
    here = build_grid(resolve(["grid=smoke", "cluster=local", "cluster.processes=2"])[0])
    there = build_grid(resolve(["grid=smoke", "cluster=slurm", "cluster.nodes=2", "cluster.gpus_per_node=1"])[0])
    one = build_grid(resolve(["grid=smoke", "cluster=local"])[0])
    ids = [[run.id for run in grid.all_runs] for grid in (here, there, one)]
    assert ids[0] == ids[1] == ids[2]


def test_a_site_profile_extends_the_slurm_profile(conf: Path) -> None:
    own = "account: vision\ntime: '1-00:00:00'\nretries: {killed: 7}\nsbatch: {reservation: x}\n"
    (conf / "cluster" / "mysite.yaml").write_text(f"defaults: [slurm, _self_]\n{own}")
    config, _ = resolve(["grid=smoke", "cluster=mysite"])
    cluster = config.cluster
    assert (cluster.executor, cluster.account, cluster.retries.killed, cluster.retries.nan) == (
        "slurm",
        "vision",
        7,
        0,
    )
    with pytest.raises(UserError, match=r"cluster=mysit: unknown cluster .*'mysite'.*; valid: auto, local, mysite"):
        resolve(["grid=smoke", "cluster=mysit"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "defaults: [slurm, _self_]\nacount: x\nwalltime: 3\n",
            "unknown setting 'acount' in cluster (did you mean 'account'?); valid: ",
        ),
        (
            "defaults: [local, _self_]\nslotz: 3\n",
            "unknown setting 'slotz' in cluster (did you mean 'slots'?); valid: executor, name",
        ),
        ("account: x\n", "mysite.yaml: must begin with `defaults: [slurm, _self_]`, or [local"),
        ("executor: slurm\n", "cluster.name: must be given; cluster.account: must be given"),
    ],
)
def test_faults_in_a_sites_profile_are_reported(conf: Path, text: str, message: str) -> None:
    (conf / "cluster" / "mysite.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        resolve(["grid=smoke", "cluster=mysite"])
    assert message in str(error.value) and "\n" not in str(error.value)

"""A site's profile: every field is checked, misspelt ones are named, and all of them reach sbatch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from submitit.slurm.slurm import _make_sbatch_string

from dynamic_rcnn.errors import UserError
from experiments.config.conf_files import CONF
from slurm.site_profile import Profile, parse_minutes


def settings(**changes: Any) -> dict[str, Any]:
    found: Any = OmegaConf.to_container(OmegaConf.load(CONF / "cluster" / "slurm.yaml"))
    return {**found, "gpus_per_node": 8, **changes}


def script(**changes: Any) -> list[str]:
    """The lines of the batch script that submitit writes for a profile."""
    parameters = Profile.from_dict(settings(**changes)).sbatch_parameters("ablation-1")
    return _make_sbatch_string(command="COMMAND", folder=Path("/out"), **parameters).splitlines()


def test_the_committed_profile_is_valid() -> None:
    profile = Profile.from_dict(settings())
    assert (profile.processes, profile.gpus, profile.time) == (8, 8, 1440)
    assert Profile.from_dict(settings(nodes=2, gpus_per_node=4)).processes == 8
    without = Profile.from_dict(settings(nodes=2, gpus_per_node=0))
    assert (without.processes, without.gpus) == (2, 0)


def test_the_batch_script_contains_the_profile() -> None:
    lines = script(
        account="vision",
        partition="gpu",
        qos="long",
        constraint="a100",
        nodes=2,
        gpus_per_node=4,
        mem="64G",
        time="1-00:00:00",
        setup=["module load cuda/12.4"],
        sbatch={"reservation": "spring", "exclusive": True},
        srun=["--mpi=none"],
    )
    for flag in (
        "--account=vision",
        "--partition=gpu",
        "--qos=long",
        "--constraint=a100",
        "--nodes=2",
        "--gpus-per-node=4",
        "--ntasks-per-node=4",
        "--cpus-per-task=4",
        "--mem=64G",
        "--time=1440",
        "--signal=USR2@120",
        "--requeue",
        "--open-mode=append",
        "--job-name=ablation-1",
        "--reservation=spring",
        "--exclusive",
    ):
        assert lines.count(f"#SBATCH {flag}") == 1, flag
    assert not any("wckey" in line for line in lines)
    assert lines.index("module load cuda/12.4") < next(i for i, line in enumerate(lines) if line.startswith("srun "))
    (srun,) = [line for line in lines if line.startswith("srun ")]
    assert "--kill-on-bad-exit=1 --cpus-per-task=4 --mpi=none COMMAND" in srun


def test_without_gpus_there_is_one_task_per_node() -> None:
    lines = script(nodes=2, gpus_per_node=0)
    assert "#SBATCH --ntasks-per-node=1" in lines and not any("gpu" in line for line in lines)


@pytest.mark.parametrize(
    "flags", [{"gpus-per-node": "a100:8"}, {"--gres": "gpu:a100:8"}, {"gres": "gpu:8,nvme:1"}, {"gpus_per_node": 8}]
)
def test_gpus_of_a_type_are_requested_once(flags: dict[str, Any]) -> None:
    asked = [line for line in script(sbatch=flags) if "gpu" in line]
    assert len(asked) == 1 and str(next(iter(flags.values()))) in asked[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (90, 90),
        ("90", 90),
        ("90:30", 91),
        ("12:00:00", 720),
        ("1-00:00:00", 1440),
        ("1-06", 1800),
        ("2-01:30", 2970),
        ("0-00:01:01", 2),
    ],
)
def test_time_limits(value: Any, expected: int) -> None:
    assert parse_minutes(value) == expected


@pytest.mark.parametrize("value", [0, -1, True, 1.5, None, "", "soon", "0", "1-", "1:2:3:4", "1-1:1:1:1", "٣"])
def test_invalid_time_limits(value: Any) -> None:
    with pytest.raises(UserError, match=r"cluster\.time=.*: must be minutes.*1-00:00:00"):
        Profile.from_dict(settings(time=value))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"nodes": 0}, "cluster.nodes=0: must be an integer of at least 1"),
    ({"nodes": True}, "cluster.nodes=True: must be an integer"),
    ({"gpus_per_node": None}, "cluster.gpus_per_node=None: must be an integer"),
    ({"gpus_per_node": "a100:4"}, "cluster.gpus_per_node=a100:4: must be an integer"),
    ({"cpus_per_task": 0}, "cluster.cpus_per_task=0: must be"),
    ({"account": 3.5}, "cluster.account=3.5: must be text on one line, or null"),
    ({"partition": ""}, "cluster.partition=: must be text"),
    ({"python": "a\nb"}, "must be text on one line"),
    ({"mem": 64}, "cluster.mem=64: must be a node's memory with a unit"),
    ({"mem": "64"}, "cluster.mem=64: must be a node's memory with a unit"),
    ({"mem": "lots"}, "with a unit (K, M, G, T), e.g. 64G, 0 for all of it, or null"),
    (
        {"time": 2},
        "cluster.warning_seconds=120: leaves less than 60 s of cluster.time=2 minutes to train; set at most 60",
    ),
    ({"warning_seconds": -1}, "cluster.warning_seconds=-1: must be an integer of at least 0"),
    ({"max_parallel": 0}, "cluster.max_parallel=0: must be an integer of at least 1"),
    ({"max_gpu_hours": 0}, "cluster.max_gpu_hours=0: must be a positive number"),
    ({"max_gpu_hours": float("nan")}, "cluster.max_gpu_hours=nan: must be a positive number"),
    ({"stall_minutes": None}, "cluster.stall_minutes=None: must be a positive number"),
    ({"setup": "module load x"}, "cluster.setup=module load x: must be a list"),
    ({"srun": [1]}, "cluster.srun[0]=1: must be text"),
    ({"srun": ["--kill-on-bad-exit=0"]}, "cluster.srun[0]=--kill-on-bad-exit=0: the launcher sets it; remove it"),
    ({"sbatch": []}, "cluster.sbatch=[]: must map flags of sbatch to values"),
    ({"sbatch": {"time": 3}}, "cluster.sbatch.time=3: set cluster.time instead"),
    ({"sbatch": {"--mem": "1G"}}, "cluster.sbatch.mem=1G: set cluster.mem instead"),
    ({"sbatch": {"A": "x"}}, "cluster.sbatch.A=x: set cluster.account instead"),
    ({"sbatch": {"cpus_per_task": 2}}, "cluster.sbatch.cpus-per-task=2: set cluster.cpus_per_task instead"),
    ({"sbatch": {"array": "0-3"}}, "cluster.sbatch.array=0-3: the launcher sets it; remove it"),
    ({"sbatch": {"no-requeue": True}}, "cluster.sbatch.no-requeue=True: the launcher sets it"),
    ({"sbatch": {"exclusive": False}}, "cluster.sbatch.exclusive=False: must be text or a number, or true for a flag"),
    ({"sbatch": {"x": None}}, "cluster.sbatch.x=None: must be text or a number"),
    ({"sbatch": {"gpus-per-node": "a100:4"}}, "contradicts cluster.gpus_per_node=8; set both to the same number"),
    ({"sbatch": {"gres": "gpu:a100:4"}}, "cluster.sbatch.gres=gpu:a100:4: contradicts cluster.gpus_per_node=8"),
    ({"sbatch": {"gres": "gpu"}}, "cluster.sbatch.gres=gpu: contradicts cluster.gpus_per_node=8"),
    ({"sbatch": {"gpus-per-node": "some"}}, "must be a number, after a type if one is needed"),
    ({"mem": "8G", "sbatch": {"mem-per-cpu": "1G"}}, "cluster.sbatch.mem-per-cpu=1G: contradicts cluster.mem=8G"),
    ({"retries": None}, "cluster.retries=None: must be a mapping"),
]


@pytest.mark.parametrize(("changes", "said"), BAD, ids=[str(changes) for changes, _ in BAD])
def test_a_fault_is_named_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as error:
        Profile.from_dict(settings(**changes))
    assert "\n" not in str(error.value).replace("a\nb", "")


@pytest.mark.parametrize("count", [-1, 1.5, True, None, "many"])
def test_retries_are_counts(count: Any) -> None:
    retries = {**settings()["retries"], "killed": count}
    with pytest.raises(UserError, match=r"cluster\.retries\.killed=.*: must be an integer of at least 0"):
        Profile.from_dict(settings(retries=retries))


def test_all_faults_are_named_at_once() -> None:
    retries = {**settings()["retries"], "tim_out": 3}
    sbatch = {"time": 3, "array": "0-3"}
    with pytest.raises(UserError) as error:
        Profile.from_dict(settings(acount="x", colour="red", nodes=0, retries=retries, sbatch=sbatch))
    said = str(error.value)
    for fault in (
        "unknown setting 'acount' in cluster (did you mean 'account'?); valid: account, constraint, cpus_per_task",
        "unknown setting 'colour' in cluster; valid: ",
        "unknown setting 'tim_out' in cluster.retries (did you mean 'time_out'?); valid: error, killed, nan",
        "cluster.nodes=0: must be an integer of at least 1",
        "cluster.sbatch.time=3: set cluster.time instead",
        "cluster.sbatch.array=0-3: the launcher sets it",
    ):
        assert fault in said


def test_missing_fields_are_named_with_the_way_out() -> None:
    given = settings()
    del given["qos"], given["retries"]["nan"]
    with pytest.raises(UserError) as error:
        Profile.from_dict(given)
    assert str(error.value) == (
        "cluster.qos: must be given; cluster.retries.nan: must be given; "
        "a profile begins with defaults: [slurm, _self_]"
    )

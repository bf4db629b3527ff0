"""SBATCH_* variables of the user are used, or named if they are not."""

from __future__ import annotations

import pytest

from slurm.user_settings import with_user_settings
from tests.slurm.test_job_arrays import profile


def test_fields_that_the_profile_leaves_open_are_filled_in() -> None:
    env = {"SBATCH_ACCOUNT": "vision", "SBATCH_PARTITION": "gpu", "SLURM_ACCOUNT": "vision", "HOME": "/root"}
    used, lines = with_user_settings(profile(), env)
    assert (used.account, used.partition, used.qos) == ("vision", "gpu", None)
    assert lines == ["cluster.account=vision, from SBATCH_ACCOUNT", "cluster.partition=gpu, from SBATCH_PARTITION"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SBATCH_ACCOUNT", "SBATCH_ACCOUNT=x is not used; cluster.account=vision is"),
        ("SLURM_ACCOUNT", "SLURM_ACCOUNT=x is not used; cluster.account=vision is"),
        ("SBATCH_TIMELIMIT", "SBATCH_TIMELIMIT=x is not used; set it in the cluster profile (cluster.sbatch=...)"),
        ("SLURM_CLUSTERS", "SLURM_CLUSTERS=x is not used; set it in the cluster profile (cluster.sbatch=...)"),
    ],
)
def test_variables_that_are_not_used_are_named(name: str, line: str) -> None:
    given = profile(account="vision")
    assert with_user_settings(given, {name: "x"}) == (given, [line])
    assert with_user_settings(given, {name: ""}) == (given, [])

"""Runs that are disturbed at random end with the bits of undisturbed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm.cluster import slurm_cluster
from tests.slurm.disturber import NODES, TOTALS, disturb_rounds


@pytest.mark.slow
def test_disturbed_runs_equal_undisturbed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with slurm_cluster(nodes=NODES, cpus=4) as cluster:
        for name, value in cluster.env.items():
            monkeypatch.setenv(name, value)
        total = disturb_rounds(cluster, tmp_path, acts=40, seed=3, runs=20)
    assert {name: total[name] for name in TOTALS if name != "runs"} == {
        "acts": 40,
        "lost": 0,
        "unequal": 0,
        "trained_twice": 0,
    }
    assert total["runs"] >= 20 and len(total["kinds"]) >= 5

"""The cluster that the tests of jobs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import RunningCluster, slurm_cluster


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[RunningCluster]:
    with slurm_cluster(nodes=6) as cluster:
        yield cluster


@pytest.fixture
def cluster(session_cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> RunningCluster:
    """The shared cluster without jobs; commands of this process use it."""
    for name, value in session_cluster.env.items():
        monkeypatch.setenv(name, value)
    session_cluster.clear()
    return session_cluster

"""Nodes on which runs failed repeatedly are left out of later submissions."""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest

from dynamic_rcnn.run.status import Attempt
from slurm.bad_nodes import find_bad_nodes, leave_out
from slurm.site_profile import Profile
from tests.slurm.test_site_profile import script, settings

NOW = time.time()


def failed(outcome: str, nodes: str, bad_node: str | None = None, days_ago: float = 0.0) -> Attempt:
    return Attempt(outcome=outcome, nodes=nodes, bad_node=bad_node, ended=NOW - days_ago * 86400)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([failed("node failure", "node1")], {}),
        ([failed("node failure", "node1"), failed("preflight failed", "node1", "node1")], {"node1": 2}),
        ([failed("preflight failed", "node[1-4]", "node3")] * 3, {"node3": 3}),
        ([failed("preflight failed", "node[1-4]")] * 2, {}),  # not known which of them
        ([failed("node failure", "node[1-4]")] * 2 + [failed("node failure", "node1,node5")] * 2, {}),
        ([failed("node failure", "node1"), failed("node failure", "node1", days_ago=8)], {}),
        ([failed(cause, "node1") for cause in ("error", "out of memory", "killed", "stalled", "time-out")], {}),
        ([Attempt(nodes="node1"), Attempt(outcome="node failure", ended=NOW)] * 2, {}),
    ],
)
def test_two_failures_for_reasons_of_a_node_within_a_week(attempts: list[Attempt], expected: dict[str, int]) -> None:
    assert find_bad_nodes(attempts) == expected


@pytest.mark.parametrize(
    ("sbatch", "flag"), [({}, "node1,node7"), ({"exclude": "node[2-3]", "exclusive": True}, "node[2-3],node1,node7")]
)
def test_they_are_excluded_beside_those_of_the_profile(sbatch: dict[str, Any], flag: str) -> None:
    profile, line = leave_out(Profile.from_dict(settings(sbatch=sbatch)), {"node1": 2, "node7": 3})
    assert line == (
        "nodes left out for faults in the last 7 days: node1 (2 failures), node7 (3 failures); "
        "cluster.exclude_bad_nodes=false uses them"
    )
    assert f"#SBATCH --exclude={shlex.quote(flag)}" in script(sbatch=profile.sbatch)


def test_not_if_the_profile_says_so_or_if_there_are_none() -> None:
    profile, kept = Profile.from_dict(settings()), Profile.from_dict(settings(exclude_bad_nodes=False))
    assert leave_out(profile, {}) == (profile, None)
    assert leave_out(kept, {"node1": 2}) == (kept, None)

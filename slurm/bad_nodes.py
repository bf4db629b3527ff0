"""Nodes that later submissions leave out, because runs failed on them for reasons of the node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from dynamic_rcnn.run.status import Attempt
from slurm.end_causes import NODE_FAILURE, PREFLIGHT
from slurm.site_profile import Profile

FAILURES = 2
DAYS = 7  # a node may have been repaired since


def find_bad_nodes(attempts: Iterable[Attempt]) -> dict[str, int]:
    """Node -> attempts that it ended in the last DAYS days, if there are at least FAILURES."""
    since = time.time() - DAYS * 86400
    nodes = [_node_at_fault(attempt) for attempt in attempts if (attempt.ended or 0.0) >= since]
    return {node: count for node, count in sorted(Counter(filter(None, nodes)).items()) if count >= FAILURES}


def _node_at_fault(attempt: Attempt) -> str | None:
    """The node that ended an attempt; None if no node did, or it is not known which of several."""
    if attempt.outcome == PREFLIGHT:
        return attempt.bad_node
    alone = attempt.nodes is not None and not set("[,") & set(attempt.nodes)
    return attempt.nodes if attempt.outcome == NODE_FAILURE and alone else None


def leave_out(profile: Profile, bad: Mapping[str, int]) -> tuple[Profile, str | None]:
    """`profile` without these nodes, beside those that it excludes itself, and a line that says so."""
    if not bad or not profile.exclude_bad_nodes:
        return profile, None
    given = [str(profile.sbatch["exclude"])] if "exclude" in profile.sbatch else []
    sbatch = {**profile.sbatch, "exclude": ",".join([*given, *bad])}
    named = ", ".join(f"{node} ({count} failures)" for node, count in bad.items())
    line = f"nodes left out for faults in the last {DAYS} days: {named}; cluster.exclude_bad_nodes=false uses them"
    return profile.model_copy(update={"sbatch": sbatch}), line

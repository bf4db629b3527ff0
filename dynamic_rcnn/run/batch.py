"""How a run's batch is divided: into groups of images, and the groups among processes. Imports no torch.

Each group has its own forward pass, random numbers, sampling order, T and beta, as the images of one GPU have in the
paper. The groups decide the result; the number of processes that train them does not, except for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_rcnn.errors import UserError


def batch_size(train: Mapping[str, Any]) -> int:
    """Images per iteration, of all groups together. train: the section of that name in a configuration."""
    return int(train["groups"] * train["images_per_group"])


def groups_per_process(groups: int, processes: int) -> int:
    """Groups that each process trains. Raises UserError if the processes cannot share them evenly."""
    if groups % processes == 0:
        return groups // processes
    counts = [str(count) for count in range(1, groups + 1) if groups % count == 0]
    listed = " or ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
    raise UserError(
        f"base.train.groups={groups}: cannot be divided among {processes} processes; use {listed}, or other groups"
    )

"""How processes share the groups of a run."""

from __future__ import annotations

import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.batch import batch_size, groups_per_process


def test_images_per_iteration() -> None:
    assert batch_size({"groups": 8, "images_per_group": 2}) == 16


@pytest.mark.parametrize(("groups", "processes"), [(8, 1), (8, 4), (8, 8), (1, 1)])
def test_groups_are_shared_evenly(groups: int, processes: int) -> None:
    assert groups_per_process(groups, processes) * processes == groups


@pytest.mark.parametrize(("groups", "processes", "valid"), [(8, 3, "1, 2, 4 or 8"), (4, 16, "1, 2 or 4"), (1, 2, "1")])
def test_groups_that_cannot_be_shared_name_the_ways_out(groups: int, processes: int, valid: str) -> None:
    with pytest.raises(UserError) as caught:
        groups_per_process(groups, processes)
    rule = f"cannot be divided among {processes} processes; use {valid}, or other groups"
    assert str(caught.value) == f"base.train.groups={groups}: {rule}"

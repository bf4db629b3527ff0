"""The benchmark of the training step at a small size: it prints its table and profiles; no test asserts a time."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch

from benchmarks import step
from dynamic_rcnn.errors import UserError


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


def test_a_row_per_model_and_the_largest_operators(capsys: pytest.CaptureFixture[str]) -> None:
    assert step.main(["images=1", "rois=8", "rounds=2", "iterations=1", "warmup=1", "profile=3"]) == 0
    printed = capsys.readouterr().out
    for name in (step.PEER, step.BEFORE, step.AFTER):
        assert re.search(rf"^{re.escape(name)} +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+$", printed, flags=re.M)
    assert re.search(rf"^{re.escape(step.PEER)} .* 1\.00 .* 1\.00$", printed, flags=re.M)
    assert len(re.findall(r"^ +[\d.]+% +[\d.]+ calls per iteration", printed, flags=re.M)) == 6


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="argument 'rois' is 'many'"):
        step.main(["rois=many"])

"""The comparison of instruction sets at its smallest size: equal settings give equal tensors, and a change is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks import instruction_sets
from benchmarks.instruction_trace import Trace
from dynamic_rcnn.errors import UserError


def test_equal_settings_give_equal_tensors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "OTHER", {})
    assert instruction_sets.main(["iterations=1"]) == 0
    printed = capsys.readouterr().out
    assert "Both settings give the same instructions on this processor" in printed
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +0\.0e\+00  -$", printed, flags=re.M)
    iteration = ["images", "integers", "modules", "losses", "gradients", "weights"]
    expected = ["weights", *iteration, "statistics", "weights", *iteration, "samples"]
    assert sorted(stage for stage, _, _ in rows) == sorted(expected)
    assert all(number == equal != "0" for _, number, equal in rows)
    assert printed.count("none in 1 iterations") == 6
    one, other = re.findall(r"iteration 1: loss ([\d.]+) and \1$", printed, flags=re.M)
    assert float(one) > 0 and float(other) > 0


def trace() -> Trace:
    stages = {("modules", "conv"): torch.ones(3), ("integers", "sort"): torch.arange(4)}
    return stages | {("samples", "boxes"): torch.ones(2, 4), ("weights", "conv"): torch.full((2,), -4.0)}


def test_a_changed_tensor_is_named_with_its_relative_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert instruction_sets.differences(trace(), trace()) == {}
    other = trace()
    other["weights", "conv"][1] += 1
    other["integers", "sort"][[0, 1]] = torch.tensor([1, 0])
    found = instruction_sets.differences(trace(), other)
    assert list(found.items()) == [(("integers", "sort"), 0.0), (("weights", "conv"), 0.25)]
    instruction_sets.print_table(trace(), found)
    modules, integers, _, weights = capsys.readouterr().out.splitlines()[1:]
    assert modules.split() == ["modules", "1", "1", "0.0e+00", "-"]
    assert integers.split() == ["integers", "1", "0", "0.0e+00", "sort"]
    assert weights.split() == ["weights", "1", "0", "2.5e-01", "conv"]


def test_the_last_bit_the_sign_of_zero_and_another_shape_are_differences() -> None:
    one, zero = torch.ones(2), torch.zeros(2)
    assert instruction_sets.difference(one, torch.nextafter(one, zero)) == pytest.approx(2**-24)
    assert instruction_sets.difference(zero + torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])) == 0
    assert instruction_sets.difference(one, one[:1]) == instruction_sets.difference(one, None) == float("inf")


def test_the_first_tensor_integers_and_samples_that_differ_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("default", "other"):
        (tmp_path / name).mkdir()
        for number in range(3):
            found = {**trace(), ("losses", "loss"): torch.tensor(0.5)}
            if name == "other" and number == 1:
                found["modules", "conv"][0] = 1.5
                found["samples", "boxes"][0, 0] += 1e-6
            if name == "other" and number == 2:
                found["integers", "sort"][0] = 7
                found["samples", "boxes"][0, 0] = 1.25
            torch.save(found, tmp_path / name / f"{number}.pt")
    instruction_sets.print_part("detector", tmp_path / "default", tmp_path / "other", 2)
    last = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split(": ")[1].strip() for line in last] == [
        "iteration 1, modules, conv (5.0e-01)",
        "iteration 2, integers, sort",
        "iteration 2, samples, boxes",
    ]


def test_iterations_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="argument 'iterations' is '0'"):
        instruction_sets.main(["iterations=0"])

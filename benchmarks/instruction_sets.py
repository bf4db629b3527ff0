"""Finds the first tensor that differs between trainings with two CPU instruction sets.

    python -m benchmarks.instruction_sets [iterations=3] [seed=0]

Runs the pretraining of shapes and the baseline detector twice, each time in a process of its own: with the default
instruction set, and with ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX. Seed and initial weights are the same.
For each iteration it compares, in the order in which they are computed:

images       what the model gets: pixels, boxes and labels of an image, and crops of objects
modules      the outputs of modules in the forward pass
integers     every tensor of integers or booleans of an operator: orders of sorts, boxes that NMS keeps, comparisons
samples      indices and boxes that RPN and RoI head sample; an index may mean another box in the other training
losses, gradients, statistics (of batch normalisation), weights (after the step)

A tensor is equal if all its bits are. A difference is relative to the largest value of its tensor; integers have none.
`iterations` also sets the number of images, so losses for different values are not comparable.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.instruction_trace import PARTS, SAMPLES, Trace, is_discrete
from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.provenance import INSTRUCTIONS

OTHER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX"}
ROUNDING = 1e-4  # a sampled box that differs by more of the image's size is another box
Differences = dict[tuple[str, str], float]  # by (stage, name) as in a Trace


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for an argument that is not a number, and if a training fails."""
    values = parse(arguments, {"iterations": "3", "seed": "0"})
    iterations = count("iterations", values["iterations"], 1)
    size = [f"iterations={iterations}", f"seed={count('seed', values['seed'], 0)}"]
    with tempfile.TemporaryDirectory() as folder:
        default, other = Path(folder, "default"), Path(folder, "other")
        used = record(default, {}, size), record(other, OTHER, [*size, f"start={default}"])
        print(f"default instructions: {used[0]}\nother instructions:   {used[1]}")
        if used[0] == used[1]:
            print("Both settings give the same instructions on this processor, so this comparison shows nothing.")
        for part in PARTS:
            print_part(part, default / part, other / part, iterations)
    return 0


def record(folder: Path, variables: dict[str, str], arguments: Sequence[str]) -> str:
    """Record a trace into `folder` in a process with these variables. Returns the instructions that it used."""
    environment = {name: value for name, value in os.environ.items() if name not in INSTRUCTIONS}
    command = [sys.executable, "-m", "benchmarks.instruction_trace", f"folder={folder}", *arguments]
    done = subprocess.run(command, env={**environment, **variables}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        shown = " ".join(f"{name}={value}" for name, value in variables.items()) or "the default instruction set"
        raise UserError(f"training with {shown} failed: see the error above")
    found = [re.search(pattern, done.stdout, flags=re.M) for pattern in (r"^aten:(.*)$", r",isa:(.*)$")]
    aten, onednn = (each[1] if each else "unknown" for each in found)
    return f"ATen {aten}, oneDNN {onednn}"


def print_part(part: str, default: Path, other: Path, iterations: int) -> None:
    """Print a table for each iteration of a training, and where the first differences are."""
    first: dict[str, str] = {}
    for number in range(iterations + 1):
        left, right = (torch.load(folder / f"{number}.pt") for folder in (default, other))
        found = differences(left, right)
        where = f"iteration {number}: loss {total(left)} and {total(right)}" if number else "initial weights"
        print(f"\n{part}, {where}")
        print_table({**right, **left}, found)
        for (stage, name), size in found.items() if number else ():
            place, discrete = f"iteration {number}, {stage}, {name}", is_discrete({**right, **left}[stage, name])
            first.setdefault("first tensor that differs", f"{place} ({size:.1e})")
            if discrete:
                first.setdefault("first integers that differ", place)
            if stage == SAMPLES and (discrete or size > ROUNDING):
                first.setdefault("first samples that differ", place)
    print()
    for title in ("first tensor that differs", "first integers that differ", "first samples that differ"):
        print(f"{part}, {title + ':':27} {first.get(title, f'none in {iterations} iterations')}")


def total(trace: Trace) -> str:
    """The loss of an iteration; empty for initial weights."""
    return f"{float(trace['losses', 'loss']):.6f}" if ("losses", "loss") in trace else ""


def differences(left: Trace, right: Trace) -> Differences:
    """The tensors that are not equal to the last bit, in the order of `left`, each with its `difference`."""
    found = {key: difference(left.get(key), right.get(key)) for key in {**left, **right}}
    return {key: size for key, size in found.items() if size is not None}


def difference(left: Tensor | None, right: Tensor | None) -> float | None:
    """The largest difference relative to the largest value; None if all bits are equal.

    It is 0 for integers, whose differences are never small, and infinite if one is missing or has another shape.
    """
    if left is None or right is None or left.shape != right.shape:
        return float("inf")
    if left.numpy().tobytes() == right.numpy().tobytes():
        return None
    if is_discrete(left):
        return 0.0
    largest = (left.double() - right.double()).abs().max()
    return float(largest / left.double().abs().max()) if largest else 0.0  # 0 if only the sign of zeros differs


def print_table(trace: Trace, found: Differences) -> None:
    """Print a row for each stage: numbers of tensors, the largest difference, and the first tensor that differs."""
    names: dict[str, list[str]] = defaultdict(list)
    for stage, name in trace:
        names[stage].append(name)
    print(f"{'stage':12} {'tensors':>7} {'equal':>7} {'largest':>8}  first that differs")
    for stage, all_names in names.items():
        differing = [name for name in all_names if (stage, name) in found]
        largest = max((found[stage, name] for name in differing), default=0.0)
        row = f"{stage:12} {len(all_names):7} {len(all_names) - len(differing):7} {largest:8.1e}"
        print(f"{row}  {differing[0] if differing else '-'}")


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

"""metrics.json of a run that times its arms (task "benchmark"): written by `dynamic_rcnn.engine.timing_run`.

task        "benchmark"; metrics {}: such a run evaluates nothing
baseline    the arm that the others are compared with
device      "cpu" or the GPU's name; threads: torch's, on the CPU
training, inference, each:
    unit        what a block's seconds are of: "iteration" or "image"
    block       how many of them a block has; warmup: how many each arm does before the first block
    blocks      in the order in which they were run: round, arm, seconds (of one unit, mean over the block),
                peak_bytes (of the arm alone on the GPU; null on a CPU, which has no such counter)
training    also batch_size
inference   also same_network (the arms in groups: those of one group have the same parameters and, given the same
            weights, bit for bit the same detections); by arm proposals and detections (means an image), score_thr
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import METRICS, read_json

TRAINING, INFERENCE = "training", "inference"
CPU = "cpu"


@dataclass(frozen=True)
class Part:
    """One of the two parts. seconds, peaks: arm -> round -> seconds a unit, bytes; peaks is {} on a CPU."""

    unit: str
    block: int
    seconds: dict[str, dict[int, float]]
    peaks: dict[str, dict[int, float]]
    content: dict[str, Any]


@dataclass(frozen=True)
class TimingResults:
    """The results of one timing run."""

    baseline: str
    device: str
    threads: int
    training: Part
    inference: Part

    def same_network(self, arm: str, other: str) -> bool:
        """Whether the two arms are one network at inference."""
        return any(arm in group and other in group for group in self.inference.content["same_network"])


def read_timing_results(run_dir: Path) -> TimingResults:
    """Raises UserError for what is missing or not of the format."""
    path = run_dir / METRICS
    value = read_json(path)
    kinds: dict[str, type] = {"baseline": str, "device": str, "threads": int, TRAINING: dict, INFERENCE: dict}
    for name, kind in kinds.items():
        if not isinstance(value.get(name), kind):
            raise UserError(f"{path}: field {name!r} is {value.get(name)!r}; metrics.json of a timing run must have it")
    training, inference = (_part(path, name, value[name]) for name in (TRAINING, INFERENCE))
    groups = inference.content.get("same_network")
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        raise UserError(f"{path}: field 'inference.same_network' is {groups!r}; it must be a list of groups of arms")
    for name in ("proposals", "detections"):
        means = inference.content.get(name)
        if not isinstance(means, dict) or not all(_is_number(means.get(arm)) for arm in inference.seconds):
            raise UserError(f"{path}: field 'inference.{name}' is {means!r}; it must give each arm's mean an image")
    return TimingResults(value["baseline"], value["device"], value["threads"], training, inference)


def _part(path: Path, name: str, content: dict[str, Any]) -> Part:
    blocks, unit, size = content.get("blocks"), content.get("unit"), content.get("block")
    if not isinstance(blocks, list) or not isinstance(unit, str) or not isinstance(size, int):
        raise UserError(f"{path}: field {name!r} must have a unit, the size of a block, and a list of blocks")
    seconds: dict[str, dict[int, float]] = {}
    peaks: dict[str, dict[int, float]] = {}
    for block in blocks:
        found: dict[str, Any] = block if isinstance(block, dict) else {}
        arm, number = found.get("arm"), found.get("round")
        taken: Any = found.get("seconds")
        peak = found.get("peak_bytes")
        measured = _is_positive(taken) and (peak is None or _is_positive(peak))
        if not isinstance(arm, str) or not isinstance(number, int) or not measured:
            raise UserError(f"{path}: {block!r} in {name}.blocks; each must have arm, round, seconds and peak_bytes")
        seconds.setdefault(arm, {})[number] = taken
        if peak is not None:
            peaks.setdefault(arm, {})[number] = peak
    return Part(unit, size, seconds, peaks, content)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0

"""metrics.json, the results of a run: AP; accuracy for a pretraining; step times for a run that times its arms."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from dynamic_rcnn.run.files import DETECTIONS, METRICS, FileContent, Part, read_json
from dynamic_rcnn.run.schema import validate
from dynamic_rcnn.run.values import Count, Fraction, Positive

BENCHMARK: Literal["benchmark"] = "benchmark"  # the task of a run that times its arms
PRETRAIN: Literal["pretrain"] = "pretrain"  # the task of a run that pretrains a backbone
TRAINING, INFERENCE = "training", "inference"
CPU = "cpu"


class EvaluationResults(FileContent):
    """What a run that trains or evaluates measured on its validation split, as fractions; None without ground truth.

    metrics: AP, AP50 ... by name. by_iou: AP at IoU 0.50, 0.55 ... 0.95. per_class: metrics by class name.
    """

    iteration: int = 0
    split: str = "val"
    images: int | None = None
    metrics: dict[str, Fraction | None]
    by_iou: list[Fraction | None] | None = Field(default=None, min_length=10, max_length=10)
    per_class: dict[str, dict[str, Fraction | None]] | None = None

    @field_validator("metrics")
    @classmethod
    def _check_names(cls, metrics: dict[str, float | None]) -> dict[str, float | None]:
        if not {"AP", "AP90"} <= metrics.keys():
            raise ValueError("must contain AP and AP90")
        return metrics


class Block(Part):
    """Consecutive steps of one arm.

    seconds: of one iteration or image, mean over the block. peak_bytes: of this arm on the GPU; None on a CPU.
    """

    round: int
    arm: str
    seconds: Positive
    peak_bytes: Count | None = None


class StepTimes(Part):
    """The timings of one part of a run.

    unit: what `Block.seconds` is the time of, "iteration" or "image". block: how many of them a block has. warmup: how
    many each arm does before its first block. blocks: in the order in which they ran.
    """

    unit: str
    block: int
    warmup: int = 0

    @cached_property
    def seconds(self) -> dict[str, dict[int, float]]:
        """Arm -> round -> seconds."""
        return self._by_arm("seconds")

    @cached_property
    def peaks(self) -> dict[str, dict[int, float]]:
        """Arm -> round -> peak bytes; {} on a CPU."""
        return self._by_arm("peak_bytes")

    def _by_arm(self, name: str) -> dict[str, dict[int, float]]:
        values: dict[str, dict[int, float]] = {}
        for block in self.blocks:  # type: ignore[attr-defined]
            value = getattr(block, name)
            if value is not None:
                values.setdefault(block.arm, {})[block.round] = value
        return values


class TrainingTimes(StepTimes):
    """Timings of training iterations."""

    batch_size: int | None = None
    blocks: list[Block]


class InferenceTimes(StepTimes):
    """Timings of inference.

    same_network: groups of arms with the same parameters and, given the same weights, the same detections bit for bit.
    proposals, detections: mean per image, by arm. score_thr: the threshold that was used, by arm.
    """

    same_network: list[list[str]]
    proposals: dict[str, float]
    detections: dict[str, float]
    score_thr: dict[str, float] = Field(default_factory=dict)
    blocks: list[Block]

    @model_validator(mode="after")
    def _check_arms(self) -> InferenceTimes:
        for name in ("proposals", "detections"):
            missing = [arm for arm in self.seconds if arm not in getattr(self, name)]
            if missing:
                raise ValueError(f"{name} must contain the mean per image of every arm; missing: {', '.join(missing)}")
        return self


class TimingResults(FileContent):
    """What a run that times its arms side by side measured. baseline: the arm that the others are compared with.

    device: "cpu" or the name of the GPU. threads: of torch on the CPU.
    """

    task: Literal["benchmark"] = BENCHMARK
    iteration: int = 0
    metrics: dict[str, None] = Field(default_factory=dict, max_length=0)
    baseline: str
    device: str
    threads: int
    inference: InferenceTimes
    training: TrainingTimes

    def same_network(self, arm: str, other: str) -> bool:
        """Whether the two arms are one network at inference."""
        return any(arm in group and other in group for group in self.inference.same_network)


class PretrainingResults(FileContent):
    """What a run that pretrains a backbone measured: the fraction of validation objects classified correctly."""

    task: Literal["pretrain"] = PRETRAIN
    iteration: int = 0
    metrics: dict[str, None] = Field(default_factory=dict, max_length=0)
    accuracy: Fraction
    objects: Count


Results = EvaluationResults | PretrainingResults | TimingResults
_KINDS: dict[str, type[PretrainingResults | TimingResults]] = {PRETRAIN: PretrainingResults, BENCHMARK: TimingResults}


def read_results(run_dir: Path) -> Results:
    """Read a run's metrics.json. Raises UserError if it is missing or not valid."""
    path = run_dir / METRICS
    again = f"`python -m dynamic_rcnn.evaluate {run_dir}`" if (run_dir / DETECTIONS).exists() else "another launch"
    way_out = f"move it away, then {again} writes it again"
    content = read_json(path, way_out)
    task = content.get("task")
    if isinstance(task, str) and task in _KINDS:
        return validate(_KINDS[task], content, file=path)
    return validate(EvaluationResults, content, way_out=way_out, file=path)

"""gpu.json beside the runs: what `python -m benchmarks.gpu` measured on one GPU, for the report."""

from __future__ import annotations

from pydantic import Field, model_validator

from dynamic_rcnn.run.files import FileContent
from dynamic_rcnn.run.provenance import Origin
from dynamic_rcnn.run.results import Block, StepTimes

GPU_TIMES = "gpu.json"
COMPONENTS = "components"  # the comparison that decides on "no extra overhead"


class ComparedTimes(StepTimes):
    """Training iterations of some arms, timed in turns.

    reference: the arm that the others are compared with. arms: name -> title.
    """

    title: str
    reference: str
    arms: dict[str, str]
    blocks: list[Block]

    @model_validator(mode="after")
    def _check_arms(self) -> ComparedTimes:
        if unknown := {self.reference, *self.seconds} - self.arms.keys():
            raise ValueError(f"arms must contain every arm that was timed; missing: {', '.join(sorted(unknown))}")
        return self


class GpuTimes(FileContent):
    """base: the model. images: what it was trained on. comparisons: by name, in the order in which they were made."""

    base: str
    images: str
    origin: Origin
    comparisons: dict[str, ComparedTimes] = Field(default_factory=dict)

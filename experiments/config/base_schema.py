"""The schema of a base, and the types of values that only configurations have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from dynamic_rcnn.run.schema import BrokenRulesError, Schema
from dynamic_rcnn.run.spec import EPOCH, EVALUATORS
from dynamic_rcnn.run.statistic import RULE, is_statistic
from dynamic_rcnn.run.values import (
    Count,
    CountFromZero,
    Positive,
    PositiveFraction,
    at_least,
    between,
    is_integer,
    is_positive,
    value_rule,
)

TEST_TIME_AUG = "TestTimeAug"  # mmdet's transform that gives several views of an image


def _check_distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Rounds = Annotated[int, at_least(2)]
LocalCount = Annotated[int, between(1, 1024)]  # a number of processes, slots or threads on this machine
Folder = Annotated[str, value_rule("must be a folder", lambda value: isinstance(value, str) and value)]
RunName = Annotated[str, value_rule("must be a run such as both/seed1", lambda value: isinstance(value, str) and value)]
Seed = Annotated[int, between(0, 2**31 - 1)]
Seeds = Annotated[
    list[Seed],
    AfterValidator(_check_distinct),
    value_rule(
        "must be a list with at least one seed, e.g. seeds=[0,1,2]", lambda seeds: isinstance(seeds, list) and seeds
    ),
]

EvaluationInterval = Annotated[
    int | str,
    value_rule(f"must be an integer of at least 0, or {EPOCH}", lambda value: value == EPOCH or is_integer(value, 0)),
]
Evaluator = Annotated[
    str, value_rule(f"must be one of {', '.join(EVALUATORS)}", lambda value: value in EVALUATORS)
]  # of COCO's metrics

DeclaredSeconds = Annotated[
    Any,
    value_rule(
        "must be a positive number of seconds per iteration, or map arms to such numbers",
        lambda cost: all(map(is_positive, cost.values())) if isinstance(cost, dict) else is_positive(cost),
    ),
]


class _OpenSchema(Schema):
    """A schema that allows other fields, which mmdet checks."""

    model_config = ConfigDict(extra="allow")


class TrainSection(Schema):
    """base.train: how long and how a run trains, and what it records."""

    max_iters: Count | None
    max_epochs: Count | None
    groups: Count
    images_per_group: Count
    processes: Count
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    deterministic: bool
    log_interval: Count
    checkpoint_interval: Count
    keep_checkpoints: Count
    workers: CountFromZero
    prefetch: Count
    val_interval: EvaluationInterval
    evaluator: Evaluator
    group_by_aspect_ratio: bool

    @model_validator(mode="after")
    def _check_length(self) -> TrainSection:
        if (self.max_iters is None) == (self.max_epochs is None):
            rule = f"max_epochs={self.max_epochs}; give one of the two, and null for the other"
            raise BrokenRulesError([(("max_iters",), self.max_iters, rule)])
        return self


class DynamicRCNN(Schema):
    """The method's constants and switches, model.train_cfg.rcnn.dynamic_rcnn."""

    label_assignment: bool
    smooth_l1: bool
    all_reduce: bool
    statistic: Annotated[Any, value_rule(RULE, is_statistic)]
    iou_topk: Count
    beta_topk: Count
    update_iter_interval: Count
    initial_iou: PositiveFraction | None
    initial_beta: PositiveFraction
    stages: Literal["all", "first"] = "all"


class _RCNN(_OpenSchema):
    dynamic_rcnn: DynamicRCNN


class _TrainCfg(_OpenSchema):
    rcnn: _RCNN


class _Model(_OpenSchema):
    train_cfg: _TrainCfg


class _Optimizer(_OpenSchema):
    lr: Positive


class _OptimWrapper(_OpenSchema):
    optimizer: _Optimizer


class Pretrain(Schema):
    """How backbones are pretrained, one per seed: a run of the base with another model, its own images and changes.

    recipe: of the drawn images. model: without the base's backbone and data_preprocessor, which are added.
    """

    recipe: dict[str, Any]
    model: dict[str, Any]
    changes: dict[str, Any] = Field(alias="set")


class TimedConfig(Schema):
    """What a timing run builds: a base with an arm's changes. The model may be any detector."""

    model: dict[str, Any]
    data: dict[str, Any]
    train: TrainSection
    optim_wrapper: _OptimWrapper
    param_scheduler: list[Any]
    pretrain: Pretrain | None = None


class RunConfig(TimedConfig):
    """What a run trains or evaluates: a base with an arm's changes."""

    model: _Model  # type: ignore[assignment]

    @model_validator(mode="after")
    def _check_views(self) -> RunConfig:
        pipeline = self.data.get("test_pipeline")
        steps = [step.get("type") for step in pipeline or () if isinstance(step, dict)]
        if TEST_TIME_AUG in steps and "mask_head" in (self.model.model_extra or {}).get("roi_head", {}):
            rule = f"{TEST_TIME_AUG} merges boxes only, and this model has masks; remove it or the masks"
            raise BrokenRulesError([(("data", "test_pipeline"), TEST_TIME_AUG, rule)])
        return self

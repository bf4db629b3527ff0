"""The schema of a base: what a run trains with, and the method's settings."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from dynamic_rcnn.run.schema import BrokenRulesError, Schema
from experiments.config.rules import Count, CountFromZero, Fraction, Positive, Seed


class _Open(Schema):
    """Other fields, which mmdet checks, are allowed."""

    model_config = ConfigDict(extra="allow")


class TrainSection(Schema):
    """base.train: how long and how a run trains, and what it records."""

    max_iters: Count | None
    max_epochs: Count | None
    batch_size: Count
    processes: Count
    log_interval: Count
    checkpoint_interval: Count
    keep_checkpoints: Count
    workers: CountFromZero
    val_interval: CountFromZero
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
    iou_topk: Count
    beta_topk: Count
    update_iter_interval: Count
    initial_iou: Fraction
    initial_beta: Fraction


class _RCNN(_Open):
    dynamic_rcnn: DynamicRCNN


class _TrainCfg(_Open):
    rcnn: _RCNN


class _Model(_Open):
    train_cfg: _TrainCfg


class _Optimizer(_Open):
    lr: Positive


class _OptimWrapper(_Open):
    optimizer: _Optimizer


class Pretrain(Schema):
    """The shared pretraining: a run of the base with changes."""

    seed: Seed
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

"""mmdet's RoI heads with dynamic label assignment (DLA) and dynamic SmoothL1 loss (DSL).

In each training iteration a stage of the head measures the IoUs of its proposals and the regression errors of its
positives, and hands them to a DynamicSchedule. DLA puts the schedule's T into the assigner, DSL puts its beta into the
loss. Each can be switched off: without both, losses and gradients are exactly those of mmdet's static head; with both,
those of DynamicRoIHead are exactly those of mmdet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.roi_heads import CascadeRoIHead, DoubleHeadRoIHead, StandardRoIHead
from mmdet.models.roi_heads.base_roi_head import BaseRoIHead
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from dynamic_rcnn.method.registry import MODELS
from dynamic_rcnn.method.schedule import DynamicSchedule, update_together
from dynamic_rcnn.method.stage import DynamicStage
from dynamic_rcnn.method.statistics import IterationStatistics
from dynamic_rcnn.run.train_log import stage_column

FIRST = "first"  # train_cfg.dynamic_rcnn.stages: DLA and DSL in the first stage alone


class DynamicHead(BaseRoIHead):
    """What the heads below add to those of mmdet.

    A process may train several groups of images in one iteration, one after the other: `set_groups` once, then
    `use_group` before each group's `loss`. The loss of the last group ends the iteration.

    Attributes:
        stages: one, or those of a Cascade head; [] without a train_cfg.
        group: the number of the group that `loss` trains.
        statistics: those of the first stage and group in the latest iteration.
    """

    stages: Sequence[DynamicStage] = ()
    statistics: IterationStatistics
    all_reduce = False
    bbox_assigner: Any

    @property
    def schedules(self) -> list[DynamicSchedule]:
        """The schedules of all groups, and of each group those of all stages."""
        return [each for group in zip(*(stage.schedules for stage in self.stages), strict=True) for each in group]

    def set_groups(self, count: int) -> None:
        """Train `count` groups of images per iteration, each with new schedules."""
        for stage in self.stages:
            stage.set_groups(count)
        self.use_group(0)

    def use_group(self, group: int) -> None:
        """Train this group next, with its T and beta."""
        self.group = group
        for stage in self.stages:
            stage.use_group(group)

    def loss(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Compute the losses of mmdet's head and the statistics of the group; the last group updates T and beta."""
        for stage in self.stages:
            stage.begin()
        levels: Any = tuple(level.float() for level in x)  # else mmdet's extractor rounds the boxes as autocast does
        losses: dict[str, Any] = super().loss(levels, rpn_results_list, batch_data_samples)
        measured = [stage.measure(self.group) for stage in self.stages]
        if self.group == 0:
            self.statistics = measured[0]
        if self.group == len(self.stages[0].schedules) - 1:
            for stage in self.stages:
                update_together(stage.schedules, self.all_reduce)
            self.use_group(0)
        return losses

    def load_schedules(self, states: list[dict[str, Any]]) -> None:
        """Restore the schedules from the `DynamicSchedule.state_dict()` of each, and use the first group."""
        for schedule, state in zip(self.schedules, states, strict=True):
            schedule.load_state_dict(state)
        self.use_group(0)

    def replay(self, values: Sequence[tuple[float, float]]) -> None:
        """Train with the (T, beta) of each window in `values`, the last one to the end. DLA and DSL must be off."""
        for stage in self.stages:
            stage.replay(values)
        self.use_group(0)

    def current_thresholds(self) -> dict[str, float]:
        """T and beta in use of each stage, by their names in train.jsonl."""
        found: dict[str, float] = {}
        for number, stage in enumerate(self.stages, start=1):
            threshold, beta = stage.current_thresholds()
            found |= {stage_column("T", number): threshold, stage_column("beta", number): beta}
        return found


@MODELS.register_module()
class DynamicRoIHead(DynamicHead, StandardRoIHead):
    """RoI head of Dynamic R-CNN (arXiv 2004.06002, algorithm 1).

    `train_cfg.dynamic_rcnn` takes mmdet's five constants (iou_topk, beta_topk, update_iter_interval, initial_iou,
    initial_beta) and three switches: label_assignment (DLA) and smooth_l1 (DSL), on by default, and all_reduce (average
    the statistics over the groups; off by default, as published). With an initial_iou of None, the lower bound of T is
    the assigner's own threshold. Its `statistic` is mmdet by default; `method.author` describes the other values.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.train_cfg is None:
            return
        settings = dict(self.train_cfg.dynamic_rcnn)
        self.all_reduce = settings.pop("all_reduce", False)
        self.stages = [DynamicStage(self.bbox_head, self.bbox_assigner, settings)]
        self.bbox_assigner = self.stages[0].assigner
        self.use_group(0)


@MODELS.register_module()
class DynamicDoubleHeadRoIHead(DynamicRoIHead, DoubleHeadRoIHead):
    """DynamicRoIHead with the two branches of Double-Head R-CNN (arXiv 1904.06493)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bbox_head.register_forward_pre_hook(_make_contiguous)  # it reshapes by `view`


def _make_contiguous(module: Any, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.contiguous() for each in features)


@MODELS.register_module()
class DynamicCascadeRoIHead(DynamicHead, CascadeRoIHead):
    """The RoI head of Cascade R-CNN (arXiv 1712.00726), each stage with its own T, beta and windows.

    Nobody has published this combination; what it does is our choice. `train_cfg` maps stages to mmdet's list of
    settings, one per stage, and dynamic_rcnn to those of `DynamicRoIHead` and to stages: `all` (default), or `first`,
    which leaves the later stages static. T of a stage starts at the stage's own threshold, which is its lower
    bound as well if initial_iou is None. Later stages measure the proposals that the stage before them refined: those
    that it sampled, without their ground-truth boxes.
    """

    def __init__(self, train_cfg: Any = None, **kwargs: Any) -> None:
        super().__init__(train_cfg=train_cfg and train_cfg.stages, **kwargs)
        if train_cfg is None:
            return
        settings = dict(train_cfg.dynamic_rcnn)
        self.all_reduce = settings.pop("all_reduce", False)
        static = {"label_assignment": False, "smooth_l1": False} if settings.pop("stages", "all") == FIRST else {}
        pairs = enumerate(zip(self.bbox_head, self.bbox_assigner, strict=True))
        self.stages = [DynamicStage(*pair, settings | (static if number else {})) for number, pair in pairs]
        self.bbox_assigner = [stage.assigner for stage in self.stages]
        self.use_group(0)

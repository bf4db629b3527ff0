"""DynamicRoIHead: mmdet's StandardRoIHead with dynamic label assignment (DLA) and dynamic SmoothL1 loss (DSL).

In each training iteration the head measures the IoUs of its proposals and the regression errors of its positives, and
hands them to a DynamicSchedule. DLA puts the schedule's T into the assigner, DSL puts its beta into the loss. Each can
be switched off: without both, losses and gradients are exactly those of StandardRoIHead; with both, exactly those of
mmdet's DynamicRoIHead.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import SmoothL1Loss
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor

from dynamic_rcnn.method.author import Assignment
from dynamic_rcnn.method.registry import MODELS
from dynamic_rcnn.method.schedule import DynamicSchedule, update_together
from dynamic_rcnn.method.statistics import IterationStatistics
from dynamic_rcnn.run.statistic import ALL_PROPOSALS, FIRST_BOX, FLOOR_AT_START, MMDET, statistic_parts


@MODELS.register_module()
class DynamicRoIHead(StandardRoIHead):
    """RoI head of Dynamic R-CNN (arXiv 2004.06002, algorithm 1).

    `train_cfg.dynamic_rcnn` takes mmdet's five constants (iou_topk, beta_topk, update_iter_interval, initial_iou,
    initial_beta) and three switches: label_assignment (DLA) and smooth_l1 (DSL), on by default, and all_reduce (average
    the statistics over the groups; off by default, as published). Its `statistic` is mmdet by default; `method.author`
    describes the other values.

    A process may train several groups of images in one iteration, one after the other: `set_groups` once, then
    `use_group` before each group's `loss`. The loss of the last group ends the iteration.

    Attributes:
        schedules: T, beta and their windows of each group; only with a train_cfg.
        group: the number of the group that `loss` trains.
        statistics: those of the first group in the latest iteration.
    """

    bbox_assigner: Any
    statistics: IterationStatistics

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.train_cfg is None:
            return
        self.settings = dict(self.train_cfg.dynamic_rcnn)
        self.label_assignment = self.settings.pop("label_assignment", True)
        self.smooth_l1 = self.settings.pop("smooth_l1", True)
        self.all_reduce = self.settings.pop("all_reduce", False)
        self.parts = statistic_parts(self.settings.pop("statistic", MMDET))
        if self.smooth_l1 and not isinstance(self.bbox_head.loss_bbox, SmoothL1Loss):
            raise ValueError(
                f"dynamic_rcnn.smooth_l1 needs bbox_head.loss_bbox of type SmoothL1Loss, not "
                f"{type(self.bbox_head.loss_bbox).__name__}; set it, or set smooth_l1: false"
            )
        self.bbox_assigner = RecordingAssigner(self.bbox_assigner)
        assigner = self.bbox_assigner.assigner
        self._configured = assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou
        self.set_groups(1)

    def set_groups(self, count: int) -> None:
        """Train `count` groups of images per iteration, each with a new schedule."""
        current = self.current_thresholds()
        start = self.settings["initial_iou"] if FLOOR_AT_START in self.parts else current["T"]
        settings = {**self.settings, "iou_threshold": start, "beta": current["beta"], "parts": self.parts}
        self.schedules = [DynamicSchedule(**settings) for _ in range(count)]
        self.use_group(0)

    def use_group(self, group: int) -> None:
        """Train this group next: put its T into the assigner if DLA is on, and its beta into the loss if DSL is on."""
        self.group = group
        schedule = self.schedules[group]
        if self.label_assignment:
            is_set = schedule.updates or FLOOR_AT_START in self.parts
            self._set_iou_thresholds((schedule.iou_threshold,) * 3 if is_set else self._configured)
        if self.smooth_l1:
            self.bbox_head.loss_bbox.beta = float(schedule.beta)

    def loss(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """Compute the losses of StandardRoIHead and the statistics of the group; the last group updates T and beta."""
        # mmdet adds the ground-truth boxes to max_overlaps inside the sampler, so the IoUs can only be read once
        # super().loss() has sampled; it does not return the assignments, which is why the assigner is wrapped.
        self.bbox_assigner.assignments.clear()
        levels: Any = tuple(level.float() for level in x)  # else mmdet's extractor rounds the boxes as autocast does
        losses = super().loss(levels, rpn_results_list, batch_data_samples)
        assignments = self.bbox_assigner.assignments
        overlaps = [each.result.max_overlaps for each in assignments]
        ious = [each.ious() for each in assignments] if FIRST_BOX in self.parts else overlaps
        errors_of = self._encode_all(assignments) if ALL_PROPOSALS in self.parts else self._targets
        schedule = self.schedules[self.group]
        statistics = IterationStatistics(
            ious=schedule.iou_statistics(ious),
            regression_error=schedule.regression_error(errors_of, len(overlaps)),
            max_overlaps=torch.cat(overlaps),
            targets=self._targets,
        )
        schedule.add(statistics.ious, statistics.regression_error)
        if self.group == 0:
            self.statistics = statistics
        if self.group == len(self.schedules) - 1:
            update_together(self.schedules, self.all_reduce)
            self.use_group(0)
        return losses

    def bbox_loss(self, x: tuple[Tensor], sampling_results: list[SamplingResult]) -> dict:
        """Compute the box losses of StandardRoIHead and keep the regression targets [P, 4] of the positives."""
        priors = torch.cat([result.pos_priors for result in sampling_results])
        boxes = torch.cat([result.pos_gt_bboxes for result in sampling_results])
        self._targets = self._encode(priors, boxes)
        return super().bbox_loss(x, sampling_results)

    def _encode_all(self, assignments: list[Assignment]) -> Tensor:
        """The regression targets [N, 4] of all proposals of the group."""
        pairs = [each.pairs() for each in assignments]
        return self._encode(torch.cat([proposals for proposals, _ in pairs]), torch.cat([boxes for _, boxes in pairs]))

    def _encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        with torch.autocast(priors.device.type, enabled=False):  # statistics are of float32 in every precision
            targets: Tensor = self.bbox_head.bbox_coder.encode(priors.float(), boxes.float()).detach()
        return targets

    def fix_schedule(self, iou_threshold: float, beta: float) -> None:
        """Train with this T and beta throughout. Both DLA and DSL must be off."""
        assert not self.label_assignment and not self.smooth_l1
        self._set_iou_thresholds((iou_threshold,) * 3)
        self.bbox_head.loss_bbox.beta = beta

    def load_schedules(self, states: list[dict[str, Any]]) -> None:
        """Restore the schedules from `DynamicSchedule.state_dict()` of each group, and use the first."""
        for schedule, state in zip(self.schedules, states, strict=True):
            schedule.load_state_dict(state)
        self.use_group(0)

    def current_thresholds(self) -> dict[str, float]:
        """The values in use: T of the assigner, and beta of the loss (0 for a loss without beta)."""
        return {
            "T": float(self.bbox_assigner.assigner.pos_iou_thr),
            "beta": float(getattr(self.bbox_head.loss_bbox, "beta", 0.0)),
        }

    def _set_iou_thresholds(self, thresholds: tuple[Any, Any, Any]) -> None:
        """Set pos_iou_thr, neg_iou_thr and min_pos_iou; with a tensor mmdet's assigner silently finds no negatives."""
        assigner = self.bbox_assigner.assigner
        assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou = thresholds


class RecordingAssigner:
    """Wraps an assigner and keeps its assignments until the next iteration."""

    def __init__(self, assigner: Any) -> None:
        self.assigner = assigner
        self.assignments: list[Assignment] = []

    def assign(
        self, pred_instances: InstanceData, gt_instances: InstanceData, *args: Any, **kwargs: Any
    ) -> AssignResult:
        result = self.assigner.assign(pred_instances, gt_instances, *args, **kwargs)
        self.assignments.append(Assignment(result, pred_instances.priors, gt_instances.bboxes))
        return result

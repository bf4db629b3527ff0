"""DynamicStage: assigner and box loss of one stage of a RoI head, with the T and beta that schedules give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.losses import SmoothL1Loss
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmengine.structures import InstanceData
from torch import Tensor

from dynamic_rcnn.method.author import Assignment
from dynamic_rcnn.method.schedule import DynamicSchedule
from dynamic_rcnn.method.statistics import IterationStatistics
from dynamic_rcnn.run.statistic import ALL_PROPOSALS, FIRST_BOX, FLOOR_AT_START, MMDET, statistic_parts


class DynamicStage:
    """One stage of a RoI head.

    Args:
        bbox_head: mmdet's box head of the stage.
        assigner: mmdet's assigner of the stage. The RoI head must use the attribute of this name instead, which wraps
            it.
        settings: see `DynamicRoIHead`, without all_reduce.

    Attributes:
        schedules: T, beta and their windows of each group.

    Raises:
        ValueError: smooth_l1 is on, and the loss has no beta.
    """

    def __init__(self, bbox_head: Any, assigner: Any, settings: dict[str, Any]) -> None:
        self.settings = dict(settings)
        self.label_assignment = self.settings.pop("label_assignment", True)
        self.smooth_l1 = self.settings.pop("smooth_l1", True)
        self.parts = statistic_parts(self.settings.pop("statistic", MMDET))
        self.bbox_head = bbox_head
        self.replayed: Sequence[tuple[float, float]] = ()
        if self.smooth_l1 and not isinstance(bbox_head.loss_bbox, SmoothL1Loss):
            raise ValueError(
                f"dynamic_rcnn.smooth_l1 needs bbox_head.loss_bbox of type SmoothL1Loss, not "
                f"{type(bbox_head.loss_bbox).__name__}; set it, or set smooth_l1: false"
            )
        self._get_targets = bbox_head.get_targets
        bbox_head.get_targets = self._record_targets
        self.assigner = RecordingAssigner(assigner)
        self._configured = assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou
        if self.settings["initial_iou"] is None:
            self.settings["initial_iou"] = float(assigner.pos_iou_thr)
        self.set_groups(1)

    def set_groups(self, count: int) -> None:
        """Give each of `count` groups of images a new schedule."""
        threshold, beta = self.current_thresholds()
        start = self.settings["initial_iou"] if FLOOR_AT_START in self.parts else threshold
        settings = {**self.settings, "iou_threshold": start, "beta": beta, "parts": self.parts}
        self.schedules = [DynamicSchedule(**settings) for _ in range(count)]

    def use_group(self, group: int) -> None:
        """Use the T of the group if DLA is on and its beta if DSL is on, or the ones that are replayed."""
        schedule = self.schedules[group]
        if self.replayed:
            threshold, self.bbox_head.loss_bbox.beta = self.replayed[min(schedule.updates, len(self.replayed) - 1)]
            self._set_iou_thresholds((threshold,) * 3)
        if self.label_assignment:
            is_set = schedule.updates or FLOOR_AT_START in self.parts
            self._set_iou_thresholds((schedule.iou_threshold,) * 3 if is_set else self._configured)
        if self.smooth_l1:
            self.bbox_head.loss_bbox.beta = float(schedule.beta)

    def begin(self) -> None:
        """Forget the assignments of the iteration before."""
        self.assigner.assignments.clear()

    def _record_targets(self, sampling_results: list[SamplingResult], *args: Any, **kwargs: Any) -> Any:
        """mmdet's `bbox_head.get_targets`; keeps the regression targets [P, 4] of the positives.

        To encode them again would make the host wait, because the coder copies its constants to the device.
        """
        found = self._get_targets(sampling_results, *args, **kwargs)
        positives = [result.pos_priors for result in sampling_results]
        if self.bbox_head.reg_decoded_bbox:  # then mmdet's targets are boxes
            boxes = torch.cat([result.pos_gt_bboxes for result in sampling_results])
            self._targets = self._encode(torch.cat(positives), boxes)
        else:
            by_image = found[2].split([len(result.priors) for result in sampling_results])  # positives come first
            rows = [targets[: len(each)] for targets, each in zip(by_image, positives, strict=True)]
            self._targets = torch.cat(rows).float()
        return found

    def measure(self, group: int) -> IterationStatistics:
        """Add the statistics of this iteration to the group's windows. The stage must have been trained since `begin`.

        mmdet adds the ground-truth boxes to max_overlaps inside the sampler, so the IoUs can only be read afterwards;
        it does not return the assignments, which is why the assigner is wrapped.
        """
        assignments, schedule = self.assigner.assignments, self.schedules[group]
        overlaps = [each.result.max_overlaps for each in assignments]
        ious = [each.ious() for each in assignments] if FIRST_BOX in self.parts else overlaps
        errors_of = self._encode_all(assignments) if ALL_PROPOSALS in self.parts else self._targets
        statistics = IterationStatistics(
            ious=schedule.iou_statistics(ious),
            regression_error=schedule.regression_error(errors_of, len(overlaps)),
            overlaps=overlaps,
            targets=self._targets,
        )
        schedule.add(statistics.ious, statistics.regression_error)
        return statistics

    def _encode_all(self, assignments: list[Assignment]) -> Tensor:
        """The regression targets [N, 4] of all proposals of the group."""
        pairs = [each.pairs() for each in assignments]
        return self._encode(torch.cat([proposals for proposals, _ in pairs]), torch.cat([boxes for _, boxes in pairs]))

    def _encode(self, priors: Tensor, boxes: Tensor) -> Tensor:
        with torch.autocast(priors.device.type, enabled=False):  # statistics are of float32 in every precision
            targets: Tensor = self.bbox_head.bbox_coder.encode(priors.float(), boxes.float()).detach()
        return targets

    def replay(self, values: Sequence[tuple[float, float]]) -> None:
        """Train with the (T, beta) of each window in `values`, the last one to the end. DLA and DSL must be off."""
        assert not self.label_assignment and not self.smooth_l1
        self.replayed = values

    def current_thresholds(self) -> tuple[float, float]:
        """(T, beta) in use: of the assigner, and of the loss (0 for a loss without beta)."""
        return float(self.assigner.assigner.pos_iou_thr), float(getattr(self.bbox_head.loss_bbox, "beta", 0.0))

    def _set_iou_thresholds(self, thresholds: tuple[Any, Any, Any]) -> None:
        """Set pos_iou_thr, neg_iou_thr and min_pos_iou; with a tensor mmdet's assigner silently finds no negatives."""
        assigner = self.assigner.assigner
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

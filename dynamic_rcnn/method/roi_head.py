"""DynamicRoIHead: mmdet's StandardRoIHead with dynamic label assignment (DLA) and dynamic SmoothL1 loss (DSL).

The head gathers the two statistics of each training iteration and hands them to its DynamicSchedule. DLA puts the
schedule's T into the assigner, DSL puts its beta into the loss; each has a switch. With both off the head computes
exactly what StandardRoIHead computes, with both on exactly what mmdet's DynamicRoIHead computes.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import SmoothL1Loss
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from torch import Tensor

from dynamic_rcnn.method.registry import MODELS
from dynamic_rcnn.method.schedule import DynamicSchedule
from dynamic_rcnn.run.train_log import HISTOGRAMS, PROPOSAL_IOUS


@MODELS.register_module()
class DynamicRoIHead(StandardRoIHead):
    """RoI head of Dynamic R-CNN (arXiv 2004.06002).

    `train_cfg.dynamic_rcnn` takes mmdet's five constants (iou_topk, beta_topk, update_iter_interval, initial_iou,
    initial_beta) and three switches: label_assignment (DLA) and smooth_l1 (DSL), both on by default, and all_reduce
    (statistics averaged over the processes; off, as published).
    """

    bbox_assigner: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schedule: DynamicSchedule | None = None
        if self.train_cfg is None:
            return
        constants = dict(self.train_cfg.dynamic_rcnn)
        self.label_assignment = constants.pop("label_assignment", True)
        self.smooth_l1 = constants.pop("smooth_l1", True)
        if self.smooth_l1 and not isinstance(self.bbox_head.loss_bbox, SmoothL1Loss):
            raise ValueError(
                f"dynamic_rcnn.smooth_l1 needs bbox_head.loss_bbox of type SmoothL1Loss, not "
                f"{type(self.bbox_head.loss_bbox).__name__}; set it, or set smooth_l1: false"
            )
        self.schedule = DynamicSchedule(
            iou_threshold=float(self.bbox_assigner.pos_iou_thr),
            beta=getattr(self.bbox_head.loss_bbox, "beta", 0.0),
            **constants,
        )
        self.bbox_assigner = _Recorder(self.bbox_assigner)
        self.last: dict[str, Tensor | None] = {}

    def loss(self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList) -> dict:
        """The losses of StandardRoIHead; afterwards the schedule has this iteration's statistics."""
        assert self.schedule is not None
        self.bbox_assigner.results.clear()
        losses = super().loss(x, rpn_results_list, batch_data_samples)
        overlaps = [result.max_overlaps for result in self.bbox_assigner.results]  # the sampler has added the gts
        ious = torch.stack([self.schedule.iou_statistic(each) for each in overlaps])
        target = self.last["target_statistic"]
        self.last.update(ious=ious, overlaps=torch.cat(overlaps))
        if self.schedule.observe(ious, target):
            self.apply_schedule()
        return losses

    def bbox_loss(self, x: tuple[Tensor], sampling_results: list[SamplingResult]) -> dict:
        """As StandardRoIHead; records the statistic of the positives' regression targets."""
        assert self.schedule is not None
        priors = torch.cat([result.pos_priors for result in sampling_results])
        boxes = torch.cat([result.pos_gt_bboxes for result in sampling_results])
        targets = self.bbox_head.bbox_coder.encode(priors, boxes)
        statistic = self.schedule.target_statistic(targets, len(sampling_results))
        self.last = {"target_statistic": statistic, "targets": targets[:, :2].detach()}
        self.num_positives = len(priors)
        return super().bbox_loss(x, sampling_results)

    def apply_schedule(self) -> None:
        """Put T into the assigner (DLA on) and beta into the loss (DSL on)."""
        assert self.schedule is not None
        if self.label_assignment:
            self._put_threshold(self.schedule.iou_threshold)
        if self.smooth_l1:
            self.bbox_head.loss_bbox.beta = float(self.schedule.beta)

    def hold(self, iou_threshold: float, beta: float) -> None:
        """Train with this T and beta throughout. Both switches must be off: nothing else moves them then."""
        assert not self.label_assignment and not self.smooth_l1
        self._put_threshold(iou_threshold)
        self.bbox_head.loss_bbox.beta = beta

    def _put_threshold(self, iou_threshold: float) -> None:
        # a plain float: the assigner takes a tensor for a range of negatives and then finds none
        assigner = self.bbox_assigner.assigner
        assigner.pos_iou_thr = assigner.neg_iou_thr = assigner.min_pos_iou = float(iou_threshold)

    def load_schedule(self, state: dict[str, Any]) -> None:
        """Take over a schedule's state from a checkpoint, and apply it."""
        assert self.schedule is not None
        self.schedule.load_state_dict(state)
        if self.schedule.updates:  # before the first update the assigner has its own thresholds
            self.apply_schedule()

    def in_force(self) -> dict[str, float]:
        """T and beta as the assigner and the loss have them now."""
        return {
            "T": float(self.bbox_assigner.assigner.pos_iou_thr),
            "beta": float(getattr(self.bbox_head.loss_bbox, "beta", 0.0)),
        }

    def statistics(self) -> dict[str, Any]:
        """This iteration's two statistics, counts an image and two histograms, for the log; waits for the device.

        See run.train_log; the ground-truth boxes are in both histograms (IoU 1, target 0).
        """
        images = len(self.last["ious"])  # type: ignore[arg-type]
        overlaps, target, targets = self.last["overlaps"], self.last["target_statistic"], self.last["targets"]
        assert overlaps is not None and targets is not None
        return {
            "iou_statistic": float(self.last["ious"].double().mean()),  # type: ignore[union-attr]
            "error_statistic": None if target is None else float(target),
            "positives": self.num_positives / images,
            **{name: int((overlaps >= iou).sum()) / images for name, iou in PROPOSAL_IOUS.items()},
            "iou_histogram": _histogram(overlaps, *HISTOGRAMS["iou"]),
            "target_histogram": _histogram(targets.abs(), *HISTOGRAMS["target"]),
        }


def _histogram(values: Tensor, bins: int, limit: float) -> list[int]:
    """How many of the values are in each of `bins` equal bins from 0 to `limit`; larger ones are in the last."""
    places = (values.double().flatten() * (bins / limit)).long().clamp(0, bins - 1)
    return torch.bincount(places.cpu(), minlength=bins).tolist()


class _Recorder:
    """An assigner that keeps its results of one iteration: the sampler adds the ground truth to them afterwards."""

    def __init__(self, assigner: Any) -> None:
        self.assigner = assigner
        self.results: list[Any] = []

    def assign(self, *args: Any, **kwargs: Any) -> Any:
        result = self.assigner.assign(*args, **kwargs)
        self.results.append(result)
        return result

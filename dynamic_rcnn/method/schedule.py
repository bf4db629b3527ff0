"""DynamicSchedule: the IoU threshold T, the SmoothL1 beta, and the two windows of statistics that move them.

Dynamic R-CNN (arXiv 2004.06002), algorithm 1, with the arithmetic of mmdet 3.3.0
(`mmdet/models/roi_heads/dynamic_roi_head.py`):

    T    = max(initial_iou, mean over the window of the mean over images of the K_I-th largest IoU)
    beta = min(initial_beta, median over the window of the (K_beta x images)-th smallest regression error)

Windows do not overlap: every C iterations both are used and emptied. Until then the statistics stay on their device, so
the schedule costs one transfer every C iterations and none in between.

The images of an iteration are divided into groups (the images of one GPU in the paper), and each group has a
DynamicSchedule of its own. `update_together` updates those of one process.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from dynamic_rcnn.run.statistic import JOINT_IOUS, UPPER_MEDIAN

# A median below this keeps the old beta: the ground-truth boxes are among the positives, with an error of exactly 0.
EPSILON = 1e-15


Windows = tuple[list[float], list[float]]


class DynamicSchedule:
    """T, beta and their windows, of one group of images.

    Args:
        iou_topk: K_I, the rank of the IoU that is taken from each image.
        beta_topk: K_beta, the rank of the regression error that is taken from each batch, per image.
        update_iter_interval: C, the length of the windows in iterations.
        initial_iou: lower bound of T.
        initial_beta: upper bound of beta.
        iou_threshold: T before the first update.
        beta: beta before the first update.
        parts: what is measured as in the author's code (see `method.author`); of these, JOINT_IOUS and UPPER_MEDIAN are
            decided here.

    Raises:
        ValueError: one of the first three is not an integer of at least 1.
    """

    def __init__(
        self,
        *,
        iou_topk: int,
        beta_topk: int,
        update_iter_interval: int,
        initial_iou: float,
        initial_beta: float,
        iou_threshold: float,
        beta: float,
        parts: Collection[str] = (),
    ) -> None:
        counts = {"iou_topk": iou_topk, "beta_topk": beta_topk, "update_iter_interval": update_iter_interval}
        for name, count in counts.items():
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"dynamic_rcnn.{name} must be an integer of at least 1, not {count!r}")
        self.iou_topk = iou_topk
        self.beta_topk = beta_topk
        self.update_iter_interval = update_iter_interval
        self.initial_iou = initial_iou
        self.initial_beta = initial_beta
        self.iou_threshold = iou_threshold  # T
        self.beta = beta
        self.parts = parts
        self.updates = 0
        self.iou_window: list[Tensor] = []
        self.error_window: list[Tensor | None] = []

    def iou_statistics(self, overlaps: Sequence[Tensor]) -> Tensor:
        """[images], the IoU statistic of each image, from the IoUs [N] of its proposals; jointly, all are the same."""
        if JOINT_IOUS in self.parts:
            return self.iou_statistic(torch.cat(list(overlaps)), len(overlaps)).repeat(len(overlaps))
        return torch.stack([self.iou_statistic(each) for each in overlaps])

    def iou_statistic(self, max_overlaps: Tensor, images: int = 1) -> Tensor:
        """The (K_I x images)-th largest IoU (paper: Dynamic Label Assignment).

        Args:
            max_overlaps: [N], IoU of each proposal with its ground-truth box.
            images: the number of images that the proposals belong to.

        Returns:
            Scalar; with fewer proposals the smallest IoU, without any 0.
        """
        if max_overlaps.numel() == 0:
            return max_overlaps.new_zeros(())
        return torch.topk(max_overlaps, min(self.iou_topk * images, len(max_overlaps)))[0][-1]

    def regression_error(self, targets: Tensor, num_images: int) -> Tensor | None:
        """The (K_beta x images)-th smallest error (|dx| + |dy|) / 2 of a batch (paper: Dynamic SmoothL1 Loss).

        Args:
            targets: [P, 4], regression targets (dx, dy, dw, dh) of the positives, divided by the box coder's stds.
            num_images: number of images in the batch.

        Returns:
            Scalar; with fewer positives the largest error, without any None.
        """
        if len(targets) == 0:
            return None
        errors = targets[:, :2].abs().mean(dim=1)
        # not torch.kthvalue, which older versions of torch refuse on CUDA in deterministic mode
        return torch.topk(errors, min(self.beta_topk * num_images, len(errors)), largest=False)[0][-1]

    def add(self, ious: Tensor, regression_error: Tensor | None) -> None:
        """Add the statistics of one iteration to the windows, in float32.

        Args:
            ious: [images], see `iou_statistic`.
            regression_error: scalar, see `regression_error`; None if the iteration had no positives.
        """
        self.iou_window.append(ious.detach().float())
        self.error_window.append(None if regression_error is None else regression_error.detach().float())

    @property
    def is_full(self) -> bool:
        """Whether the windows hold C iterations."""
        return len(self.iou_window) >= self.update_iter_interval

    def empty_windows(self) -> Windows:
        """Empty the windows. Returns the mean IoU and the regression error of each iteration, NaN without positives."""
        ious = [float(np.mean(values)) for values in _to_host(self.iou_window)]
        errors = [values[0] if values else math.nan for values in _to_host(self.error_window)]
        self.iou_window, self.error_window = [], []
        return ious, errors

    def set_from(self, windows: Windows) -> None:
        """Set T and beta from what `empty_windows` returned."""
        ious, errors = windows
        self.updates += 1
        self.iou_threshold = max(self.initial_iou, float(np.mean(ious)))
        known = [error for error in errors if not math.isnan(error)]
        median = sorted(known)[len(known) // 2] if known and UPPER_MEDIAN in self.parts else np.median(known or [0.0])
        if median >= EPSILON:
            self.beta = min(self.initial_beta, float(median))

    def state_dict(self) -> dict[str, Any]:
        """T, beta, the number of updates and both windows, as plain numbers."""
        return {
            "iou_threshold": self.iou_threshold,
            "beta": self.beta,
            "updates": self.updates,
            "iou_window": _to_host(self.iou_window),
            "target_window": _to_host(self.error_window),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; float32 statistics are restored bit for bit."""
        self.iou_threshold = state["iou_threshold"]
        self.beta = state["beta"]
        self.updates = state["updates"]
        self.iou_window = [torch.tensor(values) for values in state["iou_window"]]
        self.error_window = [torch.tensor(values[0]) if values else None for values in state["target_window"]]


def update_together(schedules: Sequence[DynamicSchedule], all_reduce: bool) -> bool:
    """Set T and beta of this process's groups if their windows are full. All processes must call this.

    Args:
        schedules: one per group, with equally long windows.
        all_reduce: average the statistics of each iteration over all groups of all processes first. In the paper each
            group has its own.

    Returns:
        Whether T and beta were set.
    """
    if not schedules[0].is_full:
        return False
    windows = [schedule.empty_windows() for schedule in schedules]
    if all_reduce:
        windows = [_average(_gather(windows))] * len(schedules)
    for schedule, own in zip(schedules, windows, strict=True):
        schedule.set_from(own)
    return True


def _gather(windows: list[Windows]) -> list[Windows]:
    """The windows of the groups of all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return windows
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, windows)
    return [each for of_process in gathered for each in of_process]


def _average(windows: list[Windows]) -> Windows:
    ious = [float(np.mean(row)) for row in zip(*(each[0] for each in windows), strict=True)]
    errors = [_mean_known(row) for row in zip(*(each[1] for each in windows), strict=True)]
    return ious, errors


def _to_host(window: list[Any]) -> list[list[float]]:
    """The values of each iteration as floats, [] where there are none; one transfer for the whole window."""
    known = [values.reshape(-1) for values in window if values is not None]
    if len({values.device for values in known}) > 1:  # the first part of a window from a checkpoint is on the CPU
        known = [values.cpu() for values in known]
    flat = iter(torch.cat(known).tolist() if known else [])
    return [[] if values is None else [next(flat) for _ in range(values.numel())] for values in window]


def _mean_known(values: tuple[float, ...]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan

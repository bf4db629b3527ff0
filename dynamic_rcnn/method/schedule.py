"""DynamicSchedule: the IoU threshold T and the SmoothL1 beta, and the two windows of statistics that move them.

Dynamic R-CNN (arXiv 2004.06002), sections 3.1 to 3.3 and algorithm 1, in the arithmetic of mmdet 3.3.0
(`mmdet/models/roi_heads/dynamic_roi_head.py`):

    T    = max(initial_iou, mean over the window of the mean over images of the iou_topk-th largest IoU)
    beta = min(initial_beta, median over the window of the (beta_topk x images)-th smallest regression target)

Windows do not overlap: both are emptied at each update. The statistics stay on their device until then, so that the
schedule costs one transfer every `update_iter_interval` iterations and none in between.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

# A median below this keeps the old beta: the ground-truth boxes are among the positives, with a target of exactly 0.
EPSILON = 1e-15


class DynamicSchedule:
    """T, beta and their windows.

    iou_topk: K_I; beta_topk: K_beta; update_iter_interval: C, in iterations; initial_iou: floor of T;
    initial_beta: cap of beta; iou_threshold and beta: the values before the first update;
    all_reduce: average each iteration's statistics over the processes (published behaviour: each its own).
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
        all_reduce: bool = False,
    ) -> None:
        for name, count in (
            ("iou_topk", iou_topk),
            ("beta_topk", beta_topk),
            ("update_iter_interval", update_iter_interval),
        ):
            if not isinstance(count, int) or count < 1:
                raise ValueError(f"dynamic_rcnn.{name} must be an integer of at least 1, not {count!r}")
        self.iou_topk = iou_topk
        self.beta_topk = beta_topk
        self.update_iter_interval = update_iter_interval
        self.initial_iou = initial_iou
        self.initial_beta = initial_beta
        self.iou_threshold = iou_threshold
        self.beta = beta
        self.all_reduce = all_reduce
        self.updates = 0
        self.iou_window: list[Tensor] = []
        self.target_window: list[Tensor | None] = []

    def iou_statistic(self, max_overlaps: Tensor) -> Tensor:
        """The iou_topk-th largest of one image's IoUs, a scalar; of fewer, the smallest; of none, 0.

        max_overlaps: [N], each proposal's IoU with its best ground-truth box.
        """
        if max_overlaps.numel() == 0:
            return max_overlaps.new_zeros(())
        return torch.topk(max_overlaps, min(self.iou_topk, len(max_overlaps)))[0][-1]

    def target_statistic(self, targets: Tensor, num_images: int) -> Tensor | None:
        """The (beta_topk x num_images)-th smallest mean |dx|, |dy|, a scalar; None without positives.

        targets: [P, 4], the positives' regression targets (dx, dy, dw, dh) after division by the coder's stds.
        """
        if len(targets) == 0:
            return None
        errors = targets[:, :2].abs().mean(dim=1)
        return torch.kthvalue(errors, min(self.beta_topk * num_images, len(errors)))[0]

    def observe(self, ious: Tensor, target: Tensor | None) -> bool:
        """Take one iteration's statistics; True if this iteration completed the window and moved T and beta.

        ious: [images]; target: scalar, or None where the iteration had no positives.
        """
        self.iou_window.append(ious.detach())
        self.target_window.append(None if target is None else target.detach())
        if len(self.iou_window) < self.update_iter_interval:
            return False
        self._update()
        return True

    def _update(self) -> None:
        ious, targets = self._windows()
        self.iou_window, self.target_window = [], []
        self.updates += 1
        self.iou_threshold = max(self.initial_iou, float(np.mean(ious)))
        measured = [target for target in targets if not math.isnan(target)]
        if measured and np.median(measured) >= EPSILON:
            self.beta = min(self.initial_beta, float(np.median(measured)))

    def _windows(self) -> tuple[list[float], list[float]]:
        """Both windows as one number an iteration, NaN where there was no positive."""
        ious = [float(np.mean(values)) for values in _to_host(self.iou_window)]
        targets = [values[0] if values else math.nan for values in _to_host(self.target_window)]
        if self.all_reduce and dist.is_available() and dist.is_initialized():
            gathered: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, (ious, targets))
            ious = [float(np.mean(row)) for row in zip(*(each[0] for each in gathered), strict=True)]
            targets = [_mean_known(row) for row in zip(*(each[1] for each in gathered), strict=True)]
        return ious, targets

    def state_dict(self) -> dict[str, Any]:
        """T, beta, how often they moved, and both windows, as plain numbers."""
        return {
            "iou_threshold": self.iou_threshold,
            "beta": self.beta,
            "updates": self.updates,
            "iou_window": _to_host(self.iou_window),
            "target_window": _to_host(self.target_window),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state that `state_dict` gave; the float32 statistics come back bit for bit."""
        self.iou_threshold = state["iou_threshold"]
        self.beta = state["beta"]
        self.updates = state["updates"]
        self.iou_window = [torch.tensor(values) for values in state["iou_window"]]
        self.target_window = [torch.tensor(values[0]) if values else None for values in state["target_window"]]


def _to_host(window: list[Any]) -> list[list[float]]:
    """Each iteration's values as floats, in one transfer from each device; [] for an iteration without any."""
    known = [values.reshape(-1) for values in window if values is not None]
    if len({values.device for values in known}) > 1:  # a window that a checkpoint began: its first part is on the host
        known = [values.cpu() for values in known]
    flat = iter(torch.cat(known).tolist() if known else [])
    return [[] if values is None else [next(flat) for _ in range(values.numel())] for values in window]


def _mean_known(values: tuple[float, ...]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan

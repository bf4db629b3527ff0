"""The statistics of one training iteration, and the summary of them that goes into train.jsonl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynamic_rcnn.run.train_log import HISTOGRAMS, PROPOSAL_IOUS, Histogram


@dataclass(frozen=True)
class IterationStatistics:
    """What one training iteration measured, on the device of the model.

    Args:
        ious: [images], the K_I-th largest IoU of each image's proposals; moves T. `method.author` has other ways.
        regression_error: scalar, the (K_beta x images)-th smallest error of the positives; moves beta. None without
            positives.
        max_overlaps: [N], IoU of each proposal of the batch with its best ground-truth box.
        targets: [P, 4], regression targets (dx, dy, dw, dh) of the positives, divided by the box coder's stds.

    Both N and P include the ground-truth boxes, with an IoU of 1 and targets of 0.
    """

    ious: Tensor
    regression_error: Tensor | None
    max_overlaps: Tensor
    targets: Tensor

    def summary(self) -> dict[str, Any]:
        """Fields of a row of train.jsonl: see `dynamic_rcnn.run.train_log`. Waits for the device."""
        images = len(self.ious)
        above = {name: int((self.max_overlaps >= iou).sum()) / images for name, iou in PROPOSAL_IOUS.items()}
        return {
            "iou_statistic": float(self.ious.double().mean()),
            "error_statistic": None if self.regression_error is None else float(self.regression_error),
            "positives": len(self.targets) / images,
            **above,
            "iou_histogram": _counts(self.max_overlaps, HISTOGRAMS["iou"]),
            "target_histogram": _counts(self.targets[:, :2].abs(), HISTOGRAMS["target"]),
        }


def _counts(values: Tensor, histogram: Histogram) -> list[int]:
    bins = (values.double().flatten() * (histogram.bins / histogram.limit)).long().clamp(0, histogram.bins - 1)
    return torch.bincount(bins.cpu(), minlength=histogram.bins).tolist()

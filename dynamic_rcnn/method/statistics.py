"""The statistics of one training iteration, and the summary of them that goes into train.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynamic_rcnn.run.train_log import HISTOGRAMS, PROPOSAL_IOUS, RANKS, Histogram


@dataclass(frozen=True)
class IterationStatistics:
    """What one training iteration measured, on the device of the model.

    Args:
        ious: [images], the K_I-th largest IoU of each image's proposals; moves T. `method.author` has other ways.
        regression_error: scalar, the (K_beta x images)-th smallest error of the positives; moves beta. None without
            positives.
        overlaps: of each image [N], IoU of each proposal with its best ground-truth box.
        targets: [P, 4], regression targets (dx, dy, dw, dh) of the positives, divided by the box coder's stds.

    Both N and P include the ground-truth boxes, with an IoU of 1 and targets of 0.
    """

    ious: Tensor
    regression_error: Tensor | None
    overlaps: Sequence[Tensor]
    targets: Tensor

    @property
    def max_overlaps(self) -> Tensor:
        """[N], the IoUs of all images."""
        return torch.cat(list(self.overlaps))

    def summary(self) -> dict[str, Any]:
        """Fields of a row of train.jsonl: see `dynamic_rcnn.run.train_log`. Waits for the device."""
        images, overlaps, errors = len(self.ious), self.max_overlaps, self.targets[:, :2].abs()
        above = {name: int((overlaps >= iou).sum()) / images for name, iou in PROPOSAL_IOUS.items()}
        by_rank = torch.stack([_at_ranks(each, 1, largest=True) for each in self.overlaps]).mean(dim=0)
        return {
            "iou_statistic": float(self.ious.double().mean()),
            "error_statistic": None if self.regression_error is None else float(self.regression_error),
            "positives": len(self.targets) / images,
            **above,
            "iou_histogram": _counts(overlaps, HISTOGRAMS["iou"]),
            "target_histogram": _counts(errors, HISTOGRAMS["target"]),
            "iou_by_rank": _rounded(by_rank),
            "error_by_rank": _rounded(_at_ranks(errors.mean(dim=1), images, largest=False)) if len(errors) else None,
        }


def _at_ranks(values: Tensor, images: int, largest: bool) -> Tensor:
    """[ranks], the (rank x images)-th largest or smallest of the values [N], or the last one; 0 without values."""
    if not len(values):
        return torch.zeros(len(RANKS), device=values.device)
    indices = torch.tensor(RANKS, device=values.device) * images - 1
    return values.float().sort(descending=largest)[0][indices.clamp(max=len(values) - 1)]


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


def _counts(values: Tensor, histogram: Histogram) -> list[int]:
    bins = (values.double().flatten() * (histogram.bins / histogram.limit)).long().clamp(0, histogram.bins - 1)
    return torch.bincount(bins.cpu(), minlength=histogram.bins).tolist()

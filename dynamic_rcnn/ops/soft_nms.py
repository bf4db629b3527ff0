"""Soft-NMS on the CPU, with the calling convention of mmcv's compiled operator `softnms`.

Soft-NMS (arXiv 1704.04503) lowers the scores of boxes that overlap a better one instead of dropping them. torchvision
has no such operator. Convention from open-mmlab/mmcv 2.1.0, `mmcv/ops/csrc/pytorch/cpu/nms.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.floating]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Take the boxes by decreasing score, and after each one lower the scores of those that overlap it.

    Args:
        boxes: [N, 4] xyxy in pixels, on the CPU.
        scores: [N].
        dets: [N, 5]; the first K rows are set to the kept boxes and their lowered scores.
        iou_threshold: the IoU from which methods 0 and 1 lower a score.
        sigma: of method 2.
        min_score: a box is dropped once a better one has lowered its score below this.
        method: the factor of a score; 0 (naive): 0, which is plain NMS; 1 (linear): 1 - IoU; 2 (gaussian):
            exp(-IoU^2 / sigma).
        offset: 1 if a box includes its last pixel, so that its width is x2 - x1 + 1; else 0.

    Returns:
        [K], indices of the kept boxes, by decreasing lowered score.
    """
    factors: list[Callable[[Array], Array]] = [
        lambda ious: (ious < iou_threshold).astype(ious.dtype),
        lambda ious: np.where(ious < iou_threshold, 1, 1 - ious),
        lambda ious: np.exp(-(ious**2) / sigma),
    ]
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    corners, lowered = (tensor.detach().to(dtype).numpy().copy() for tensor in (boxes, scores))
    corners[:, 2:] += offset
    rest, kept = np.arange(len(corners)), list[int]()
    while len(rest):
        at = int(lowered[rest].argmax())
        best = int(rest[at])
        kept.append(best)
        rest = np.delete(rest, at)
        lowered[rest] *= factors[method](_ious(corners[best], corners[rest]))
        rest = rest[lowered[rest] >= min_score]
    indices = torch.tensor(kept, dtype=torch.long)
    dets[: len(kept), :4] = boxes[indices]
    dets[: len(kept), 4] = torch.from_numpy(lowered)[indices].to(dets.dtype)
    return indices


def _ious(box: Array, others: Array) -> Array:
    """[M], IoU of one box [4] with others [M, 4]; 0 for two boxes without an area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = sides.clip(min=0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = areas + (box[2:] - box[:2]).prod() - intersection
    return intersection / np.where(union > 0, union, 1)

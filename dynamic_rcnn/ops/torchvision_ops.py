"""mmcv's NMS and deformable convolutions (DCNv1 and v2), with mmcv's calling conventions, by torchvision.

Conventions from open-mmlab/mmcv 2.1.0: `mmcv/ops/nms.py`, `deform_conv.py`, `modulated_deform_conv.py`. Boxes are xyxy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops

Pair = int | tuple[int, int]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Non-maximum suppression.

    Args:
        boxes: [N, 4] xyxy in pixels.
        scores: [N].
        iou_threshold: a box is dropped if its IoU with a kept one is larger.
        offset: 1 if a box includes its last pixel, so that its width is x2 - x1 + 1; else 0.

    Returns:
        Indices of the kept boxes, by decreasing score.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    if boxes.is_cuda or len(boxes) == 0:
        return ops.nms(boxes, scores, iou_threshold)
    kept = torch.zeros(len(boxes), dtype=torch.bool)
    for group in _groups_apart(boxes):
        kept[group[ops.nms(boxes[group], scores[group], iou_threshold)]] = True
    by_score = scores.sort(stable=True, descending=True)[1]
    return by_score[kept[by_score]]


def _groups_apart(boxes: Tensor) -> tuple[Tensor, ...]:
    """Groups of boxes, as increasing indices, each to the right of all boxes of the groups before it.

    Boxes of different groups do not overlap. mmcv shifts boxes of other classes, and proposals of other levels, so far
    to the right. torchvision's CPU kernel compares each kept box with all boxes of lower scores.
    """
    left, order = boxes[:, 0].sort(stable=True)
    right = boxes[order, 2].cummax(dim=0)[0]
    begins = (left[1:] > right[:-1]).nonzero().flatten() + 1
    return tuple(group.sort()[0] for group in order.tensor_split(begins))


def deform_conv2d(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Deformable convolution (DCNv1), differentiable; in at least float32.

    Args:
        features: [N, C, H, W].
        offset: [N, 2 G kh kw, H', W'], (dy, dx) in pixels of each tap in each of the G deformable groups.
        weight: [O, C / groups, kh, kw].
        stride, padding, dilation: vertical and horizontal, or one number for both.
        groups, deform_groups: not used; they follow from the shapes.
        bias, im2col_step: of mmcv's kernel, not used.

    Returns:
        [N, O, H', W'], in the precision of the offsets.

    Raises:
        RuntimeError: with gradients in deterministic mode on CUDA.
    """
    return _deform_conv2d(features, offset, None, weight, None, stride, padding, dilation)


def modulated_deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Modulated deformable convolution (DCNv2): `deform_conv2d` with a factor for each tap, and a bias [O] or None.

    mask: [N, G kh kw, H', W'], the factors.
    """
    return _deform_conv2d(features, offset, mask, weight, bias, stride, padding, dilation)


def _deform_conv2d(
    features: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *geometry: Pair,
) -> Tensor:
    if features.is_cuda and torch.are_deterministic_algorithms_enabled() and torch.is_grad_enabled():
        # worded as torch does; torchvision 0.29 does not notice
        raise RuntimeError("deform_conv2d_backward (DCN) does not have a deterministic implementation")
    dtype = torch.promote_types(offset.dtype, torch.float32)  # torchvision's CPU kernels have no bfloat16
    inputs = [None if each is None else each.to(dtype) for each in (features, offset, weight, bias, mask)]
    output: Tensor = ops.deform_conv2d(*inputs[:4], *map(_pair, geometry), inputs[4])
    return output.to(offset.dtype)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value

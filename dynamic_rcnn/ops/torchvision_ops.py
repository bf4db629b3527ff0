"""mmcv's NMS and modulated deformable convolution (DCNv2), with mmcv's calling conventions, by torchvision.

Conventions from open-mmlab/mmcv 2.1.0: `mmcv/ops/nms.py`, `modulated_deform_conv.py`. Boxes are xyxy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops


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


def modulated_deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **settings: int,
) -> None:
    """Write the convolution [N, O, H', W'] into `output`.

    Args:
        features: [N, C, H, W].
        weight: [O, C / groups, kh, kw].
        bias: [O]; empty without a bias.
        ones, columns: buffers of mmcv's kernel, not used.
        offset: [N, 2 G kh kw, H', W'], (dy, dx) in pixels of each tap in each of the G deformable groups.
        mask: [N, G kh kw, H', W'], a factor for each tap.
        output: [N, O, H', W'].
        settings: stride, pad and dilation, each with _h and _w, and with_bias; others follow from the shapes.
    """
    used_bias = bias if settings["with_bias"] else None
    output.copy_(ops.deform_conv2d(features, offset, weight, used_bias, *_geometry(settings), mask))


def modulated_deform_conv_backward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_features: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **settings: int,
) -> None:
    """Write the gradients into the five `grad_` tensors, which have the shapes of their inputs; see the forward.

    Raises:
        RuntimeError: in deterministic mode on CUDA, worded as torch does. torchvision 0.29 would not notice.
    """
    if features.is_cuda and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError("modulated_deform_conv_backward (DCNv2) does not have a deterministic implementation")
    with_bias = bool(settings["with_bias"])
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        *(grad_output, features, weight, offset, mask),
        bias if with_bias else bias.new_zeros(len(weight)),
        *(number for pair in _geometry(settings) for number in pair),
        *(settings["group"], settings["deformable_group"]),
        True,  # there is a mask
    )
    targets = (grad_features, grad_weight, grad_offset, grad_mask, grad_bias)
    for target, gradient in zip(targets, gradients, strict=True):
        if target is not grad_bias or with_bias:
            target.copy_(gradient)


def _geometry(settings: dict[str, int]) -> list[tuple[int, int]]:
    """(vertical, horizontal) stride, padding and dilation."""
    return [(settings[f"{name}_h"], settings[f"{name}_w"]) for name in ("stride", "pad", "dilation")]

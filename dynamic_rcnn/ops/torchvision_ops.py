"""mmcv's NMS, RoIAlign and modulated deformable convolution (DCNv2), with mmcv's calling conventions, by torchvision.

Conventions from open-mmlab/mmcv 2.1.0: `mmcv/ops/nms.py`, `roi_align.py`, `modulated_deform_conv.py`. Boxes are xyxy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import ops


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the kept boxes by falling score.

    boxes: [N, 4] xyxy in pixels; scores: [N]; offset: 1 counts a box's last pixel as inside (width x2 - x1 + 1).
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return ops.nms(boxes, scores, iou_threshold)


def roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features [K, C, aligned_height, aligned_width] into `output`.

    features: [N, C, H, W]; rois: [K, 5] (image index, x1, y1, x2, y2) in image pixels; sampling_ratio 0: adaptive;
    pool_mode 1: average (the argmax buffers are for maximum pooling, which torchvision lacks).
    """
    if pool_mode != 1:
        raise RuntimeError("RoIAlign with pool_mode='max' needs a compiled mmcv 2.1; torchvision has 'avg'")
    size = (aligned_height, aligned_width)
    output.copy_(ops.roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient with respect to the features [N, C, H, W] into `grad_input`; see `roi_align_forward`."""
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def modulated_deform_conv_forward(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    with_bias: bool,
    **derived: int,
) -> None:
    """Write the convolution [N, O, H', W'] into `output`.

    features: [N, C, H, W]; weight: [O, C / groups, kh, kw]; bias: [O], empty without; offset: [N, 2 G kh kw, H', W'],
    of each of the G deformable groups and each tap (dy, dx) in pixels; mask: [N, G kh kw, H', W'], what each tap is
    multiplied by. derived: kernel_h, kernel_w, group and deformable_group, which are in the shapes. ones and columns
    are buffers of mmcv's kernel.
    """
    output.copy_(
        ops.deform_conv2d(
            features,
            offset,
            weight,
            bias if with_bias else None,
            (stride_h, stride_w),
            (pad_h, pad_w),
            (dilation_h, dilation_w),
            mask,
        )
    )


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
    *,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
    **derived: int,
) -> None:
    """Write the gradients into the five `grad_` tensors, of the shapes of their inputs; see the forward."""
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad_output,
        features,
        weight,
        offset,
        mask,
        bias if with_bias else bias.new_zeros(len(weight)),
        stride_h,
        stride_w,
        pad_h,
        pad_w,
        dilation_h,
        dilation_w,
        group,
        deformable_group,
        True,  # there is a mask
    )
    targets = (grad_features, grad_weight, grad_offset, grad_mask, grad_bias)
    for target, gradient in zip(targets, gradients, strict=True):
        if target is not grad_bias or with_bias:
            target.copy_(gradient)

"""mmcv's NMS and RoIAlign, with mmcv's calling conventions, on torchvision's operators.

Conventions from open-mmlab/mmcv 2.1.0, `mmcv/ops/nms.py` and `mmcv/ops/roi_align.py`. Boxes are xyxy.
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

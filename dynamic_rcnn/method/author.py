"""How the author's code measures T and beta where it differs from mmdet: `train_cfg.dynamic_rcnn.statistic`.

The paper's tables were made with the author's code (hkzhang95/DynamicRCNN at fdfca3d: `network.py` and `train.py` in
`models/zhanghongkai/dynamic_rcnn/coco/dynamic_rcnn_r50_fpn_1x`, `proposal_target_opr.py` in
`dynamic_rcnn/det_opr/rcnn`). `statistic: author` measures as it does in five ways. A list chooses some of them:

    joint_ious      T follows the (K_I x images)-th largest IoU of all proposals of the group, instead of the mean over
                    images of the K_I-th largest IoU of each
    first_box       a proposal that is not assigned to a ground-truth box has its IoU with the first box of the image,
                    instead of with the best one
    all_proposals   beta follows the errors of all proposals before sampling, instead of those of the sampled positives;
                    of a proposal that is not assigned, relative to the first box of the image
    floor_at_start  T is initial_iou until the first update, instead of the assigner's own threshold
    upper_median    the median of an even number of errors is the upper of the two in the middle, instead of their mean

Two failures of the author's code are not repeated: it raises an error for fewer than K_I x images proposals, and a
median of 0 makes its beta 0. The rest of its recipe is not part of this option: boxes with +1, the number of proposals,
the RPN's loss, and the learning rate of biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor


@dataclass(frozen=True)
class Assignment:
    """The assignment of one image's proposals. The sampler adds the ground-truth boxes to `result`, as the first rows.

    Attributes:
        result: of N proposals.
        priors: [N, 4] or without the ground-truth boxes, xyxy in pixels.
        gt_boxes: [G, 4], xyxy in pixels.
    """

    result: AssignResult
    priors: Tensor
    gt_boxes: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Each proposal and its ground-truth box, or the first box where it has none.

        Returns:
            Both [N, 4], in float32; [0, 4] if the image has no ground-truth box.
        """
        boxes, indices = self.gt_boxes.float(), self.result.gt_inds
        if len(boxes) == 0:
            return boxes, boxes
        added = boxes[: len(indices) - len(self.priors)]
        return torch.cat([added, self.priors.float()]), boxes[(indices - 1).clamp(min=0)]

    def ious(self) -> Tensor:
        """[N], IoU of each proposal with its box in `pairs`; without ground-truth boxes, the result's own IoUs."""
        proposals, boxes = self.pairs()
        return bbox_overlaps(proposals, boxes, is_aligned=True) if len(boxes) else self.result.max_overlaps

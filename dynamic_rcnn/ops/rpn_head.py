"""mmdet's RPN head for training on a CPU: gradients of the sampled anchors alone, and NMS of the best proposals alone.

Of the thousands of anchors of an image the RPN samples one or two hundred for its loss; the others have no gradient.
Here the proposals come from the convolutions without gradients, and the losses from the same layers applied to the
3 x 3 pixels around each sampled anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.models.task_modules.samplers import RandomSampler
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from dynamic_rcnn.ops.roi_align import SparseProduct
from dynamic_rcnn.ops.torchvision_ops import nms

MMCV_SPLITS = 10000  # from so many boxes on, mmcv runs NMS on one level after the other


class FasterRPNHead(RPNHead):
    """Equal to the last bit in anchors, samples and proposals, and to rounding in losses and gradients.

    Keeps the anchors of the latest sizes. Uses mmdet's methods on CUDA, and for heads that it does not cover.
    """

    def get_anchors(
        self, featmap_sizes: list[tuple], batch_img_metas: list[dict], device: torch.device | str = "cuda"
    ) -> Any:
        sizes = (*map(tuple, featmap_sizes), *(tuple(meta["pad_shape"]) for meta in batch_img_metas), str(device))
        if getattr(self, "_sizes", None) != sizes:
            self._sizes, self._anchors = sizes, super().get_anchors(featmap_sizes, batch_img_metas, device)
        return self._anchors

    def loss_and_predict(
        self, x: tuple[Tensor, ...], batch_data_samples: SampleList, proposal_cfg: Any = None
    ) -> tuple[dict, InstanceList]:
        if x[0].is_cuda or self.num_convs > 1 or type(self.sampler) is not RandomSampler:
            return super().loss_and_predict(x, batch_data_samples, proposal_cfg)
        boxes, ignored, metas = unpack_gt_instances(batch_data_samples)
        # losses first: autocast keeps the weights that it converts, and has no gradients of those converted in no_grad
        losses = self._loss_of_samples(x, boxes, metas, ignored)
        return losses, self._proposals(x, metas, proposal_cfg or self.test_cfg)

    def _loss_of_samples(
        self, x: tuple[Tensor, ...], boxes: InstanceList, metas: list[dict], ignored: InstanceList
    ) -> dict[str, Tensor]:
        """mmdet's losses, summed over levels instead of listed by level."""
        levels, flags = self.get_anchors([each.shape[-2:] for each in x], metas, device=x[0].device)
        anchors = torch.cat(levels[0])
        indices, targets, number = [], [], 0
        for image, (valid, gt, meta, ignore) in enumerate(zip(flags, boxes, metas, ignored, strict=True)):
            flag = torch.cat(valid)
            *columns, positive, negative, sampled = self._get_targets_single(
                anchors, flag, gt, meta, ignore, unmap_outputs=False
            )
            chosen = torch.cat([positive, negative])
            inside = anchor_inside_flags(anchors, flag, meta["img_shape"][:2], self.train_cfg["allowed_border"])
            indices.append(inside.nonzero().flatten()[chosen] + image * len(anchors))
            targets.append([each[chosen] for each in columns])
            number += sampled.avg_factor
        index = torch.cat(indices)
        scores, deltas = self._forward_anchors(x, index)
        classification, regression = self.loss_by_feat_single(
            scores.t()[None, :, None],  # as maps [1, channels, 1, S]
            deltas.t()[None, :, None],
            anchors[index % len(anchors)],
            *(torch.cat(each) for each in zip(*targets, strict=True)),
            avg_factor=number,
        )
        return {"loss_rpn_cls": classification, "loss_rpn_bbox": regression}

    def _forward_anchors(self, x: tuple[Tensor, ...], index: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the head for single anchors.

        Args:
            x: [N, C, H, W] of each level.
            index: [S], numbers of anchors, counted over images, levels, rows, columns and base anchors.

        Returns:
            Scores [S, classes] and deltas [S, 4].
        """
        rows = torch.cat([each.permute(0, 2, 3, 1).flatten(1, 2) for each in x], dim=1)  # [N, pixels, C]
        taps = neighbours([each.shape[-2:] for each in x], x[0].device)
        place, base = index // self.num_base_priors, index % self.num_base_priors
        image, pixel = place // len(taps), place % len(taps)
        taps = taps[pixel]  # [S, 9]
        exists = taps >= 0
        pixels = (taps + image[:, None] * rows.shape[1])[exists]
        rows = rows.flatten(0, 1).to(torch.promote_types(rows.dtype, torch.float32))
        patches = SparseProduct.apply(rows, pixels, rows.new_ones(len(pixels)), exists.long().flatten())
        patches = patches.view(len(index), -1)
        hidden = functional.linear(patches, self.rpn_conv.weight.permute(0, 2, 3, 1).flatten(1), self.rpn_conv.bias)
        hidden = hidden.relu()
        at = torch.arange(len(index), device=index.device), base
        scores, deltas = (
            functional.linear(hidden, layer.weight.flatten(1), layer.bias).unflatten(1, (self.num_base_priors, -1))[at]
            for layer in (self.rpn_cls, self.rpn_reg)
        )
        return scores, deltas

    @torch.no_grad()
    def _proposals(self, x: tuple[Tensor, ...], metas: list[dict], cfg: Any) -> InstanceList:
        """The boxes of each image after NMS; mmdet's `predict_by_feat`, which sorts one image after the other."""
        outputs, sizes = self(x), [each.shape[-2:] for each in x]
        priors = self.prior_generator.grid_priors(sizes, dtype=outputs[0][0].dtype, device=x[0].device)
        number, best = cfg.get("nms_pre", -1), []
        for level, (score, delta, anchors) in enumerate(zip(*outputs, priors, strict=True)):
            score = score.permute(0, 2, 3, 1).reshape(len(metas), -1, self.cls_out_channels)
            score = (score.sigmoid() if self.use_sigmoid_cls else score.softmax(-1))[..., 0]
            delta = delta.permute(0, 2, 3, 1).reshape(len(metas), -1, 4)
            anchors = anchors.expand_as(delta)
            if 0 < number < score.shape[1]:
                score, order = (each[:, :number] for each in score.sort(dim=1, descending=True))
                order = order[..., None].expand(-1, -1, 4)
                delta, anchors = delta.gather(1, order), anchors.gather(1, order)
            best.append((score, delta, anchors, torch.full_like(score, level, dtype=torch.long)))
        columns = (torch.cat(each, dim=1) for each in zip(*best, strict=True))
        results = []
        for meta, score, delta, anchors, level in zip(metas, *columns, strict=True):
            boxes = self.bbox_coder.decode(anchors, delta, max_shape=meta["img_shape"])
            found = InstanceData(bboxes=boxes, scores=score, level_ids=level)
            results.append(self._bbox_post_process(found, cfg, img_meta=meta))
        return results

    def _bbox_post_process(
        self, results: InstanceData, cfg: Any, rescale: bool = False, with_nms: bool = True, img_meta: Any = None
    ) -> InstanceData:
        """NMS of the boxes with the highest scores: of more and more until enough are kept."""
        size = results.bboxes[:, 2:] - results.bboxes[:, :2]
        large = (size > cfg.get("min_bbox_size", -1)).all(dim=1)
        others = dict(cfg.nms) != {"type": "nms", "iou_threshold": cfg.nms.get("iou_threshold")}
        if size.is_cuda or rescale or others or not large.any() or len(results) >= MMCV_SPLITS:
            return super()._bbox_post_process(results, cfg, rescale, with_nms, img_meta)
        if not large.all():
            results = results[large]
        boxes, scores, wanted = results.bboxes, results.scores, cfg.max_per_img
        apart = boxes + (results.level_ids.to(boxes) * (boxes.max() + 1))[:, None]  # by level, as mmcv does
        order = scores.sort(stable=True, descending=True)[1]
        for number in (wanted + wanted // 4, 3 * wanted, len(order)):
            best = order[:number]
            kept = best[nms(apart[best], scores[best], cfg.nms.iou_threshold)][:wanted]
            if len(kept) == wanted or number >= len(order):
                break
        labels = torch.zeros(len(kept), dtype=torch.long, device=boxes.device)
        return InstanceData(bboxes=boxes[kept], scores=scores[kept], labels=labels)


def neighbours(sizes: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """[pixels, 9], the pixels of the 3 x 3 around each pixel of all levels of these sizes (H, W); -1 outside."""
    first, levels = 0, []
    for height, width in sizes:
        pixels = torch.arange(first, first + height * width, device=device).view(height, width)
        padded = functional.pad(pixels, (1, 1, 1, 1), value=-1)
        levels.append(padded.unfold(0, 3, 1).unfold(1, 3, 1).reshape(-1, 9))
        first += height * width
    return torch.cat(levels)

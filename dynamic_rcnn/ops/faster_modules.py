"""Modules of mmdet with the same results from fewer small operations, which take much of a training step on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import RoIAlign
from mmdet.models.backbones import ResNet
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RPNHead
from mmdet.models.necks import FPN
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torch.nn import functional

from dynamic_rcnn.ops.roi_align import Sampling, roi_align_levels, sparse_is_better
from dynamic_rcnn.ops.rpn_head import FasterRPNHead


def use_faster_modules(model: nn.Module) -> None:
    """Replace the classes of the modules of `model` that have a faster variant here. Weights and results stay."""
    for module in model.modules():
        module.__class__ = FASTER.get(type(module), type(module))


def can_be_channels_last(model: nn.Module) -> bool:
    """Whether a detector is known to work with channels last: a ResNet with FPN. Modules that use `view` do not."""
    backbone: Any = getattr(model, "backbone", None)
    return type(backbone) is ResNet and backbone.plugins is None and type(getattr(model, "neck", None)) is FPN


class FasterRoIExtractor(SingleRoIExtractor):
    """Pools all levels of the pyramid at once where gradients are needed. Equal to rounding."""

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        layer = self.roi_layers[0]
        average = isinstance(layer, RoIAlign) and layer.pool_mode == "avg" and not layer.use_torchvision
        if not average or not sparse_is_better(feats[0]):
            return super().forward(feats, rois, roi_scale_factor)
        levels = self.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None and len(feats) > 1:  # mmdet ignores it with one level
            rois = self.roi_rescale(rois, roi_scale_factor)
        scales = [each.spatial_scale for each in self.roi_layers]
        sampling = Sampling(layer.output_size, layer.sampling_ratio, layer.aligned)
        return roi_align_levels(feats, rois, levels, scales, sampling)


class FasterBBoxHead(Shared2FCBBoxHead):
    """Permutes the weights of the first layer instead of features that are stored channels last. Equal to rounding."""

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.with_avg_pool or not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        first, second = self.shared_fcs
        weight = first.weight.unflatten(1, x.shape[1:]).permute(0, 2, 3, 1).flatten(1)
        x = self.relu(functional.linear(x.permute(0, 2, 3, 1).flatten(1), weight, first.bias))
        x = self.relu(second(x))
        return self.fc_cls(x) if self.with_cls else None, self.fc_reg(x) if self.with_reg else None


class FasterPreprocessor(DetDataPreprocessor):
    """Does not copy the annotations of a batch that is on the model's device already."""

    def cast_data(self, data: Any) -> Any:
        if self.device.type == "cpu" and isinstance(data, dict):
            return dict(data)  # a copy, because mmdet replaces the images: batches may be used again
        return super().cast_data(data)


FASTER: dict[type, type] = {
    SingleRoIExtractor: FasterRoIExtractor,
    RPNHead: FasterRPNHead,
    Shared2FCBBoxHead: FasterBBoxHead,
    DetDataPreprocessor: FasterPreprocessor,
}

"""ObjectClassifier: the model that pretrains a backbone, by classifying crops around the objects of its images.

It has the interface by which detectors are trained, so that data, training loop and checkpoints are those of any run. A
detector starts from the weights of its backbone alone, as from a backbone that was trained on ImageNet.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmengine.model import BaseModel
from torch import Tensor, nn
from torchvision.ops import roi_align

from dynamic_rcnn.method.registry import MODELS

_LARGEST = 2.0  # side of the largest crop, relative to the longer side of the object


@MODELS.register_module()
class ObjectClassifier(BaseModel):
    """Classifies each object of an image by a square crop around it.

    In training, crops are 1 to 2 times as wide as the longer side of the object, and shifted by up to a quarter of that
    side in each direction; else they are 1.5 times as wide and centered.

    Args:
        backbone: config of an mmdet backbone; its last output is averaged over the crop and classified.
        in_channels: number of channels of the backbone's last output.
        num_classes: number of classes.
        crop_size: height and width, in pixels, to which crops are resized bilinearly.
        data_preprocessor: config of mmdet's DetDataPreprocessor.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        in_channels: int,
        num_classes: int,
        crop_size: int,
        data_preprocessor: dict[str, Any],
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.classifier = nn.Linear(in_channels, num_classes)
        self.crop_size = crop_size

    def forward(self, inputs: Tensor, data_samples: SampleList, mode: str = "loss") -> dict[str, Tensor]:
        """The cross-entropy over all objects of the images [B, 3, H, W]. mode: there is no other than "loss"."""
        assert mode == "loss"
        logits, labels = self._classify(inputs, data_samples)
        return {"loss_cls": nn.functional.cross_entropy(logits, labels)}

    def count_correct(self, inputs: Tensor, data_samples: SampleList) -> tuple[int, int]:
        """The number of objects that are classified correctly, and of all objects."""
        logits, labels = self._classify(inputs, data_samples)
        return int((logits.argmax(1) == labels).sum()), len(labels)

    def _classify(self, images: Tensor, samples: SampleList) -> tuple[Tensor, Tensor]:
        """Logits [N, classes] and labels [N] of the objects; a single one is cropped twice in training."""
        instances = [sample.gt_instances for sample in samples]
        if self.training and sum(map(len, instances)) == 1:  # batch norm needs more than one value per channel
            images, instances = torch.cat([images, images]), [*instances, *instances]
        boxes = [self._crops(get_box_tensor(each.bboxes)) for each in instances]
        crops = roi_align(images, boxes, self.crop_size, sampling_ratio=2, aligned=True)
        features = self.backbone(crops.contiguous(memory_format=torch.channels_last))[-1]
        return self.classifier(features.mean((2, 3))), torch.cat([each.labels for each in instances])

    def _crops(self, boxes: Tensor) -> Tensor:
        """Squares [N, 4] around boxes [N, 4], x1, y1, x2, y2 in pixels."""
        center, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True)
        if self.training:
            center = center + (torch.rand_like(center) - 0.5) * side / 2
            side = side * (1 + (_LARGEST - 1) * torch.rand_like(side))
        else:
            side = side * (1 + _LARGEST) / 2
        return torch.cat([center - side / 2, center + side / 2], 1)

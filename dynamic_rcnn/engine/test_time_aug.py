"""Test-time augmentation: several views of an image, such as other sizes and flips, give one set of detections.

A test pipeline with mmdet's transform TestTimeAug gives the views, mmdet's DetTTAModel merges their detections. The
views keep all boxes above `test_cfg.rcnn.score_thr`; then `test_cfg.rcnn.nms`, NMS or Soft-NMS, follows once over the
boxes of all views. The author's bbox_aug (hkzhang95/DynamicRCNN at 9b8a761, `dynamic_rcnn/engine/bbox_aug.py`) does the
same, with boxes that include their last pixel (+1). In mmdet's own configurations, each view also has its own NMS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmcv.transforms import TestTimeAug
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


@contextmanager
def merging_views(model: BaseDetector, dataset: BaseDataset) -> Iterator[Any]:
    """The model whose `test_step` detects on a batch of `dataset`: `model`, or one that merges the dataset's views."""
    if not any(isinstance(step, TestTimeAug) for step in dataset.pipeline.transforms):
        yield model
        return
    from mmdet.models.test_time_augs import DetTTAModel  # needs the operators of dynamic_rcnn.ops

    head: Any = model.roi_head
    test_cfg = head.test_cfg
    head.test_cfg = ConfigDict({**test_cfg, "nms": None, "max_per_img": -1})
    try:
        yield DetTTAModel(tta_cfg=test_cfg, module=model)
    finally:
        head.test_cfg = test_cfg

"""A detector over a data set: detections in COCO's results format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset, pseudo_collate
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def predict(model: BaseDetector, dataset: BaseDataset, workers: int) -> list[dict[str, Any]]:
    """Detections on every image, one image at a time, boxes xywh in pixels of the original image."""
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, collate_fn=pseudo_collate)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return [row for batch in loader for sample in model.test_step(batch) for row in _rows(sample, dataset)]
    finally:
        model.train(was_training)


def _rows(sample: DetDataSample, dataset: BaseDataset) -> list[dict[str, Any]]:
    instances = sample.pred_instances.cpu()
    boxes = instances.bboxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    columns = zip(boxes.tolist(), instances.scores.tolist(), instances.labels.tolist(), strict=True)
    return [
        {"image_id": sample.img_id, "category_id": dataset.cat_ids[label], "bbox": box, "score": score}
        for box, score, label in columns
    ]

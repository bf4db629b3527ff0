"""Runs a detector over a data set. Detections have COCO's results format, with masks if the model predicts them."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset, pseudo_collate
from torch.utils.data import DataLoader, Subset

from dynamic_rcnn.engine.test_time_aug import merging_views
from dynamic_rcnn.metrics import masks
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.worker import start_worker

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def predict(model: BaseDetector, dataset: BaseDataset, workers: int) -> list[dict[str, Any]] | None:
    """Detect on every image, one at a time, in all its views. Of n processes each takes every n-th image.

    Returns:
        On rank 0 all detections in the order of the images, with boxes xywh in pixels of the original image; None on
        the other ranks.
    """
    distributed.broadcast_tensors(model.buffers())
    share = Subset(dataset, range(distributed.rank(), len(dataset), distributed.world_size()))
    loader = DataLoader(
        share, batch_size=1, num_workers=workers, collate_fn=pseudo_collate, worker_init_fn=start_worker
    )
    images: list[list[dict[str, Any]]] = []
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), merging_views(model, dataset) as detector:
            for batch in loader:
                images += [_rows(sample, dataset) for sample in detector.test_step(batch)]
                beat()
    finally:
        model.train(was_training)
    shares = distributed.gather(images)
    if shares is None:
        return None
    return [row for turn in zip_longest(*shares, fillvalue=[]) for image in turn for row in image]


def _rows(sample: DetDataSample, dataset: BaseDataset) -> list[dict[str, Any]]:
    instances = sample.pred_instances.cpu()
    boxes = instances.bboxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    columns = zip(boxes.tolist(), instances.scores.tolist(), instances.labels.tolist(), strict=True)
    rows = [
        {"image_id": sample.img_id, "category_id": dataset.cat_ids[label], "bbox": box, "score": score}
        for box, score, label in columns
    ]
    if "masks" in instances:
        for row, mask in zip(rows, instances.masks.numpy(), strict=True):
            row["segmentation"] = masks.encode(mask)
    return rows

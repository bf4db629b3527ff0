"""mmdet's CocoDataset, reading annotations as everything else here does: pycocotools decodes files by the locale."""

from __future__ import annotations

from pathlib import Path

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from dynamic_rcnn.data.annotations import read_json


class Utf8Coco(COCO):
    """The annotations of a file in UTF-8."""

    def __init__(self, annotation_file: str) -> None:
        super().__init__()
        self.dataset = read_json(Path(annotation_file))
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


class Utf8CocoDataset(CocoDataset):
    """CocoDataset with annotations in UTF-8."""

    COCOAPI = Utf8Coco

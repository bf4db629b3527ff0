"""What `benchmarks.gpu` trains: the R-50 recipe, or a small one, on images that are drawn for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from benchmarks import coco_images
from dynamic_rcnn.data import dataset
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.conf_files import load_base


class Size(NamedTuple):
    """A base, and the size in pixels and the number of its images."""

    base: str
    width: int
    height: int
    images: int


SIZES = {False: Size("faster_rcnn_r50_fpn_1x", 640, 480, 64), True: Size("shapes_r18_fpn", 96, 80, 8)}  # by tiny


def make_spec(folder: Path, tiny: bool, seed: int) -> RunSpec:
    """Draw the images into `folder`. Returns a run of the baseline on them, as one group of 2 images."""
    size = SIZES[tiny]
    paths = coco_images.draw(folder, size.images, 1, size.width, size.height, seed)
    data = {"name": "drawn", **dataset.coco_format_dataset(folder, paths)}
    config = OmegaConf.create(load_base(size.base))
    config.pop("pretrain")
    config.model.backbone.init_cfg = None
    config.model.roi_head.bbox_head.num_classes = len(data["classes"])
    config.train.update(groups=1, images_per_group=2, processes=1, workers=0)
    config.optim_wrapper.optimizer.lr = 1e-4  # random weights would diverge at the recipe's
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return RunSpec("baseline", seed, data, plain)


def changed(spec: RunSpec, both: bool = True, **train: Any) -> RunSpec:
    """The run with or without both components, and with other settings of its section `train`."""
    config = OmegaConf.create(spec.config)
    config.model.train_cfg.rcnn.dynamic_rcnn.update(label_assignment=both, smooth_l1=both)
    config.train.update(train)
    plain: Any = OmegaConf.to_container(config)
    return replace(spec, arm="both" if both else "baseline", config=plain)


def describe(tiny: bool, spec: RunSpec) -> str:
    """What is trained on, for the record."""
    size, group = SIZES[tiny], spec.config["train"]["images_per_group"]
    return f"{size.images} drawn images of {size.width} x {size.height} pixels in COCO's layout, {group} per iteration"

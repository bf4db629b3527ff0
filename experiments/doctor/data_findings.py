"""The doctor's findings on the data set: annotations, images, and objects per image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE
from experiments.config.grid import Grid
from experiments.doctor.findings import BAD, DOING, NOTE, OK, Finding
from experiments.launching.images import image_reports
from experiments.planning.cost import COCO_TRAINED_ON

COCO = {"train": (118_287, 860_001), "val": (5_000, 36_781)}  # images and annotations of COCO 2017

_PAIR_BYTES = 32  # of GPU memory per pair of an anchor and an object, at the peak of mmdet's bbox_overlaps
_MUCH = 10**9  # bytes


def check_data(grid: Grid, decode: str) -> Iterator[Finding]:
    """Yield the findings on the data set. decode: see `image_reports`."""
    dataset, trains = grid.runs[0].dataset, grid.task != EVALUATE
    name = dataset["name"]
    if datasets.to_draw(dataset) is not None:
        yield Finding(OK, "data", f"{name} has not been drawn yet; the first launch draws it")
        return
    yield Finding(DOING, "data", f"reading the annotations of {name}")
    try:
        notes = datasets.check(dataset, trains, grid.has_masks, grid.min_size)
    except UserError as error:
        yield Finding(BAD, "data", str(error))
        return
    yield from (Finding(NOTE, "data", note) for note in notes)
    root, _ = datasets.prepare(dataset)
    yield Finding(OK, "data", f"the annotations of {name} in {root} are valid, and every image exists")
    if trains:
        content = json.loads((root / dataset["train_ann"]).read_bytes())
        if name == "coco":
            yield _check_counts("train", content, (grid.runs[0].config["data"]["filter_cfg"] or {}).get("min_size", 0))
        yield from _check_objects(grid, content["annotations"])
        yield from _check_crowding(grid, content["annotations"])
    if name == "coco":
        yield _check_counts("val", json.loads((root / dataset["val_ann"]).read_bytes()))
    yield from _check_images(grid, decode)


def _check_counts(split: str, content: dict[str, Any], min_size: int = 0) -> Finding:
    counts = len(content["images"]), len(content["annotations"])
    actual, expected = (f"{images:,} images, {boxes:,} annotations" for images, boxes in (counts, COCO[split]))
    what = f"{split}2017"
    if counts != COCO[split]:
        text = f"{actual}; COCO 2017 has {expected}: download the annotations again, or use dataset=coco_format"
        return Finding(BAD, what, text)
    if split == "val":
        return Finding(OK, what, actual)
    boxed = {annotation["image_id"] for annotation in content["annotations"]}
    used = sum(each["id"] in boxed and min(each["width"], each["height"]) >= min_size for each in content["images"])
    if used != COCO_TRAINED_ON:
        return Finding(BAD, what, f"{used:,} images to train on; the published runs have {COCO_TRAINED_ON:,}")
    return Finding(OK, what, f"{actual}; {used:,} images to train on")


def _check_objects(grid: Grid, annotations: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield a note for each K_beta that the mean number of objects per image exceeds.

    The ground-truth boxes are among the positives, with an error of 0. Where a batch has more of them than K_beta x
    images, the regression error that sets beta is 0, and beta stays at its upper bound.
    """
    objects = Counter(each["image_id"] for each in annotations if not each["iscrowd"])
    mean = objects.total() / max(1, len(objects))
    arms: dict[int, list[str]] = {}
    trained = [spec for spec in grid.specs.values() if spec.task != EVALUATE]
    for name, model in ((name, model) for spec in trained for name, model in spec.models.items()):
        rcnn = model.get("train_cfg", {}).get("rcnn")
        method = rcnn.get("dynamic_rcnn") if isinstance(rcnn, dict) else None  # mmdet's Cascade R-CNN has a list
        if method and method["smooth_l1"] and _samples_objects(rcnn):
            arms.setdefault(method["beta_topk"], []).append(name)
    for beta_topk, names in arms.items():
        text = f"{mean:.1f} per image with objects, K_beta (beta_topk) is {beta_topk} in {', '.join(names)}"
        if mean > beta_topk:
            rule = "the ground-truth boxes, whose error is 0, then hold beta at initial_beta; choose a larger beta_topk"
            yield Finding(NOTE, "objects", f"{text}: {rule}")
        else:
            yield Finding(OK, "objects", text)


def _samples_objects(rcnn: dict[str, Any]) -> bool:
    """Whether the ground-truth boxes are among the positives of the (first stage of the) RoI head."""
    first = rcnn["stages"][0] if "stages" in rcnn else rcnn
    return bool(first["sampler"].get("add_gt_as_proposals", True))


def _check_crowding(grid: Grid, annotations: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield a note if the IoUs of all anchors with the objects of the most crowded image need much GPU memory."""
    most = max(Counter(each["image_id"] for each in annotations if not each["iscrowd"]).values(), default=0)
    config = grid.runs[0].config
    model = config.get("model", {})
    generator, assigner = (
        model.get(part, {}).get(name) or {} for part, name in (("rpn_head", "anchor_generator"), ("train_cfg", "rpn"))
    )
    sizes = [
        size
        for step in config["data"]["train_pipeline"]
        for size in (step.get("scales") or [step.get("scale")])
        if isinstance(size, list)
    ]
    if not sizes or generator.get("type") != "AnchorGenerator" or "gpu_assign_thr" not in assigner.get("assigner", {}):
        return
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    places = sum(-(-width // stride) * -(-height // stride) for stride in generator["strides"])
    anchors = places * len(generator["scales"]) * len(generator["ratios"])
    threshold, needed = assigner["assigner"]["gpu_assign_thr"], _PAIR_BYTES * anchors * most
    if needed > _MUCH and (threshold < 0 or _PAIR_BYTES * anchors * threshold > _MUCH):
        advice = f"base.model.train_cfg.rpn.assigner.gpu_assign_thr={_MUCH // (_PAIR_BYTES * anchors)}"
        text = f"up to {most} per image; their IoUs with {anchors:,} anchors take about {needed / 1e9:.1f} GB"
        yield Finding(NOTE, "objects", f"{text} on a GPU; {advice} computes those of crowded images on the CPU")


def _check_images(grid: Grid, decode: str) -> Iterator[Finding]:
    for split, report in image_reports(grid, decode):
        yield Finding(BAD if report.problems.count else OK, f"{split} images", str(report))
        yield from (Finding(NOTE, f"{split} images", text) for text in report.notes)

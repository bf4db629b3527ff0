"""Test-time augmentation: the boxes of all views, then one NMS; on random weights and two small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dynamic_rcnn import ops
from dynamic_rcnn.data.dataset import coco_format_dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.run.spec import RunSpec
from tests.dynamic_rcnn.data.coco_fixture import write_coco
from tests.dynamic_rcnn.runs import plain_config

ops.install()
from mmcv.ops import batched_nms  # noqa: E402

SIZES = [[160, 160], [120, 120]]
FLIPS = [0.0, 1.0]
SOFT = {"type": "soft_nms", "iou_threshold": 0.5, "min_score": 0.001}


def pipeline(sizes: list[list[int]], flips: list[float]) -> list[dict[str, Any]]:
    return [
        {"type": "LoadImageFromFile"},
        {
            "type": "TestTimeAug",
            "transforms": [
                [{"type": "Resize", "scale": size, "keep_ratio": True} for size in sizes],
                [{"type": "RandomFlip", "prob": flip} for flip in flips],
                [{"type": "PackDetInputs"}],
            ],
        },
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Any]:
    """A spec and its model. Its data set has two small images, one of them no square."""
    folder = tmp_path_factory.mktemp("made")
    data = {**coco_format_dataset(folder, write_coco(folder, val_images=2)), "name": "mine"}
    config = plain_config("shapes_r18_fpn", 3, {"model.test_cfg.rpn.max_per_img": 30})
    spec = RunSpec("both", 0, data, config)
    return spec, build.build_model(spec)


def detect(made: tuple[RunSpec, Any], test_pipeline: list[dict[str, Any]] | None, **rcnn: Any) -> Any:
    """The detections. rcnn: what to change in test_cfg.rcnn."""
    spec, model = made
    data = {**spec.config["data"], **({"test_pipeline": test_pipeline} if test_pipeline else {})}
    spec = RunSpec(spec.arm, 0, spec.dataset, {**spec.config, "data": data})
    given = model.roi_head.test_cfg
    model.roi_head.test_cfg = changed = type(given)({**given, **rcnn})
    try:
        found = predict(model, build.build_dataset(spec, "val", Path(spec.dataset["root"])), 0)
        assert model.roi_head.test_cfg is changed and model.training
    finally:
        model.roi_head.test_cfg = given
    assert found
    return found


def test_one_view_gives_the_detections_without_views(made: tuple[RunSpec, Any]) -> None:
    assert detect(made, pipeline(SIZES[:1], FLIPS[:1])) == detect(made, None)
    assert detect(made, pipeline(SIZES[:1], FLIPS[:1]), nms=SOFT) == detect(made, None, nms=SOFT)


@pytest.mark.parametrize("nms", [{"type": "nms", "iou_threshold": 0.5}, SOFT])
def test_views_are_merged_by_one_nms_over_all_their_boxes(made: tuple[RunSpec, Any], nms: dict[str, Any]) -> None:
    """Against the boxes of each view on its own, without an NMS."""
    merged = detect(made, pipeline(SIZES, FLIPS), nms=nms, max_per_img=20)
    views = [
        row
        for size in SIZES
        for flip in FLIPS
        for row in detect(made, pipeline([size], [flip]), nms=None, max_per_img=-1)
    ]
    for image in {row["image_id"] for row in merged}:
        own = [row for row in views if row["image_id"] == image]
        boxes = torch.tensor([row["bbox"] for row in own])
        boxes[:, 2:] += boxes[:, :2]
        scores, labels = (torch.tensor([row[key] for row in own]) for key in ("score", "category_id"))
        found, kept = batched_nms(boxes, scores, labels, nms)
        expected = [(row["category_id"], row["score"]) for row in merged if row["image_id"] == image]
        assert len(expected) <= 20 < len(own)
        assert [label for label, _ in expected] == labels[kept][:20].tolist()
        assert [score for _, score in expected] == pytest.approx(found[:20, 4].tolist(), rel=1e-5)


def test_boxes_of_a_flipped_view_are_mirrored_back(made: tuple[RunSpec, Any]) -> None:
    """Against the boxes on the mirrored image, as the same model finds them without views."""
    mirrored = [*made[0].config["data"]["test_pipeline"][:2], {"type": "RandomFlip", "prob": 1.0}]
    raw = detect(made, [*mirrored, {"type": "PackDetInputs"}])
    found = detect(made, pipeline(SIZES[:1], FLIPS[1:]))
    root, paths = Path(made[0].dataset["root"]), made[0].dataset
    widths = {image["id"]: image["width"] for image in json.loads((root / paths["val_ann"]).read_text())["images"]}
    assert [row["score"] for row in found] == [row["score"] for row in raw]
    for row, other in zip(found, raw, strict=True):
        left = widths[row["image_id"]] - other["bbox"][0] - other["bbox"][2]
        assert row["bbox"] == pytest.approx([left, *other["bbox"][1:]], abs=1e-3)

"""The faster RPN head against mmdet's: proposals and samples to the last bit, losses and gradients to rounding.

In float64, but for the sum of the classification loss, which mmdet computes in float32.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor

from dynamic_rcnn.engine import build
from dynamic_rcnn.ops.rpn_head import FasterRPNHead, neighbours

build.use_mmdet_scope()
from mmdet.models.dense_heads import RPNHead  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

SIZES = [(9, 13), (5, 7), (3, 4)]
HEAD = {
    "in_channels": 4,
    "feat_channels": 6,
    "anchor_generator": {"type": "AnchorGenerator", "scales": [2], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16]},
    "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
    "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True},
    "loss_bbox": {"type": "L1Loss"},
    "train_cfg": {
        "assigner": {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.3, "min_pos_iou": 0.3},
        "sampler": {"type": "RandomSampler", "num": 40, "pos_fraction": 0.5, "add_gt_as_proposals": False},
        "allowed_border": -1,
        "pos_weight": -1,
    },
}
PROPOSALS = {"nms_pre": 60, "max_per_img": 30, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}
BOXES = {
    "boxes": [[[2.0, 3.0, 20.0, 14.0], [30.0, 8.0, 44.0, 35.0]], [[5.0, 5.0, 12.0, 12.0]]],
    "the same box twice": [[[8.0, 8.0, 16.0, 16.0]] * 2, [[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]]],
    "none in one image": [[], [[5.0, 5.0, 12.0, 12.0]]],
    "none": [[], []],
    "one image": [[[2.0, 3.0, 20.0, 14.0]]],
}


def run(
    kind: type, boxes: list[list[list[float]]], head: dict[str, Any], proposals: dict[str, Any], dtype: torch.dtype
) -> tuple[dict[str, Tensor], list[Any], Tensor]:
    """Losses and gradients by name, the proposals of each image, and the next random number."""
    torch.manual_seed(0)
    model = kind(**ConfigDict({**HEAD, **head})).to(dtype)
    model.init_weights()
    x = tuple(torch.randn(len(boxes), 4, *size, dtype=dtype).mul_(30).requires_grad_() for size in SIZES)
    samples = []
    for number, each in enumerate(boxes):
        meta = {"img_shape": (33 + number, 50), "pad_shape": (36, 44 + 8 * number)}
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=torch.tensor(each).view(-1, 4), labels=torch.zeros(len(each)).long())
        samples.append(sample)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        losses, found = model.loss_and_predict(x, samples, ConfigDict({**PROPOSALS, **proposals}))
    summed = {
        name: torch.stack(tuple(value)).sum() if isinstance(value, list) else value for name, value in losses.items()
    }
    sum(summed.values()).backward()  # type: ignore[union-attr]
    inputs = {**dict(model.named_parameters()), **{f"level {at}": level for at, level in enumerate(x)}}
    return summed | {name: each.grad for name, each in inputs.items()}, found, torch.rand(1)


def compare(
    boxes: list[list[list[float]]],
    head: dict[str, Any] | None = None,
    proposals: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float64,
    **tolerance: float,
) -> list[Any]:
    """Assert that both heads do the same. Returns the proposals."""
    values, found, number = run(FasterRPNHead, boxes, head or {}, proposals or {}, dtype)
    expected, theirs, random = run(RPNHead, boxes, head or {}, proposals or {}, dtype)
    assert torch.equal(number, random), "another number of random numbers was used"
    for mine, other in zip(found, theirs, strict=True):
        assert set(mine.keys()) == set(other.keys())
        for name, value in other.items():
            assert torch.equal(mine[name], value), name
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close({name: values[name]}, {name: value}, **(tolerance or {"rtol": 1e-6, "atol": 1e-8}))
    return found


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize(
    "head",
    [
        {},
        {"train_cfg": {**HEAD["train_cfg"], "allowed_border": 0, "pos_weight": 2.0}},
        {"reg_decoded_bbox": True, "loss_bbox": {"type": "GIoULoss"}},
        {"loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False}},
        {"init_cfg": {"type": "Normal", "layer": "Conv2d", "std": 0.0}},
        {"num_convs": 2},
        {"train_cfg": {**HEAD["train_cfg"], "sampler": {"type": "PseudoSampler"}}},
    ],
    ids=[
        "plain",
        "inside the image",
        "decoded boxes",
        "softmax",
        "equal scores",
        "two convolutions",
        "without sampling",
    ],
)
def test_losses_gradients_and_proposals_are_mmdets(boxes, head):
    assert all(len(each) for each in compare(boxes, head))


@pytest.mark.parametrize(
    "proposals",
    [
        {"nms": {"type": "nms", "iou_threshold": 0.05}},
        {"nms": {"type": "nms", "iou_threshold": 0.4}, "max_per_img": 20},
        {"nms": {"type": "nms", "iou_threshold": 1.0}},
        {"max_per_img": 1000},
        {"nms_pre": -1},
        {"min_bbox_size": 9},
        {"nms": {"type": "nms", "iou_threshold": 0.5, "class_agnostic": True}},
        {"nms": {"type": "nms", "iou_threshold": 0.5, "split_thr": 10}},
    ],
    ids=str,
)
def test_proposals_are_mmdets_with_other_settings(proposals):
    compare(BOXES["boxes"], {}, proposals)


@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_under_autocast_all_parameters_have_gradients(boxes):
    compare(boxes, dtype=torch.float32, rtol=0.05, atol=0.05)


def test_images_without_proposals():
    assert [len(each) for each in compare(BOXES["boxes"], {}, {"min_bbox_size": 1000})] == [0, 0]


def test_neighbours_of_pixels():
    found = neighbours([(2, 3), (1, 1)], torch.device("cpu"))
    assert found[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 3, 4]
    assert found[4].tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
    assert found[6].tolist() == [-1, -1, -1, -1, 6, -1, -1, -1, -1]


def test_anchors_are_kept_until_the_sizes_change():
    head = FasterRPNHead(**ConfigDict(HEAD))
    metas = [{"pad_shape": (36, 44)}]
    anchors = head.get_anchors(SIZES, metas, "cpu")
    assert head.get_anchors(SIZES, metas, "cpu") is anchors
    assert head.get_anchors(SIZES, [{"pad_shape": (20, 44)}], "cpu") is not anchors

"""The RoI head against mmdet's: equal to the last bit with both components on, and with both off."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.seeding import seed_all

build.use_mmdet_scope()
from mmdet.models.roi_heads import DynamicRoIHead as MmdetDynamicRoIHead  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402

CHANNELS, CLASSES, SIZE = 8, 3, 64
CONSTANTS = {"iou_topk": 6, "beta_topk": 2, "update_iter_interval": 3, "initial_iou": 0.4, "initial_beta": 1.0}


def config(kind: str, mask: bool = False, **switches: Any) -> dict[str, Any]:
    extractor = {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": 7, "sampling_ratio": 0},
        "out_channels": CHANNELS,
        "featmap_strides": [4, 8],
    }
    head: dict[str, Any] = {
        "type": kind,
        "bbox_roi_extractor": extractor,
        "bbox_head": {
            "type": "Shared2FCBBoxHead",
            "in_channels": CHANNELS,
            "fc_out_channels": 16,
            "roi_feat_size": 7,
            "num_classes": CLASSES,
            "bbox_coder": {
                "type": "DeltaXYWHBBoxCoder",
                "target_means": [0.0, 0.0, 0.0, 0.0],
                "target_stds": [0.1, 0.1, 0.2, 0.2],
            },
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0},
        },
        "train_cfg": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": 0.5,
                "neg_iou_thr": 0.5,
                "min_pos_iou": 0.5,
                "match_low_quality": False,
                "ignore_iof_thr": -1,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": 24,
                "pos_fraction": 0.25,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": True,
            },
            "pos_weight": -1,
            "debug": False,
            "mask_size": 28,
            "dynamic_rcnn": {**CONSTANTS, **switches},
        },
        "test_cfg": {},
    }
    if mask:
        head["mask_roi_extractor"] = {**extractor, "roi_layer": {**extractor["roi_layer"], "output_size": 14}}
        head["mask_head"] = {
            "type": "FCNMaskHead",
            "num_convs": 1,
            "in_channels": CHANNELS,
            "conv_out_channels": CHANNELS,
            "num_classes": CLASSES,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        }
    return head


def make(kind: str, mask: bool = False, **switches: Any) -> torch.nn.Module:
    seed_all(0, "weights")
    head = MODELS.build(ConfigDict(config(kind, mask, **switches)))
    for parameter in head.parameters():
        parameter.data.normal_(0, 0.05)
    return head


def boxes_near(generator: torch.Generator, boxes: torch.Tensor, count: int) -> torch.Tensor:
    """`count` xyxy boxes around `boxes` (anywhere if there are none)."""
    if len(boxes) == 0:
        corner = torch.rand(count, 2, generator=generator) * 40
        return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 20], dim=1)
    chosen = boxes[torch.randint(len(boxes), (count,), generator=generator)]
    return (chosen + torch.randn(count, 4, generator=generator) * 3).clamp(0, SIZE)


def batch(iteration: int, objects: tuple[int, ...], proposals: int = 30, mask: bool = False) -> tuple[Any, Any, Any]:
    """Features, proposals and annotated samples; objects[i] ground-truth boxes in image i."""
    generator = torch.Generator().manual_seed(1000 + iteration)
    features = tuple(
        torch.randn(len(objects), CHANNELS, SIZE // s, SIZE // s, generator=generator).requires_grad_() for s in (4, 8)
    )
    proposed, samples = [], []
    for count in objects:
        boxes = boxes_near(generator, torch.zeros(0, 4), count)
        instances = InstanceData(bboxes=boxes, labels=torch.randint(CLASSES, (count,), generator=generator))
        if mask:
            from mmdet.structures.mask import BitmapMasks

            instances.masks = BitmapMasks(np.ones((count, SIZE, SIZE), np.uint8), SIZE, SIZE)
        sample = DetDataSample(gt_instances=instances, ignored_instances=InstanceData(bboxes=torch.zeros(0, 4)))
        sample.set_metainfo({"img_shape": (SIZE, SIZE)})
        samples.append(sample)
        candidates = boxes_near(generator, boxes, proposals)
        proposed.append(InstanceData(bboxes=candidates, scores=torch.rand(proposals, generator=generator)))
    return features, proposed, samples


def trace(head: Any, objects: list[tuple[int, ...]], proposals: int = 30, mask: bool = False) -> list[dict[str, Any]]:
    """Losses, gradients, T and beta over seeded iterations."""
    rows = []
    for iteration, counts in enumerate(objects):
        features, proposed, samples = batch(iteration, counts, proposals, mask)
        seed_all(0, "iteration", iteration)
        head.zero_grad()
        losses = head.loss(features, proposed, samples)
        sum(value for name, value in losses.items() if name.startswith("loss")).backward()
        assigner = getattr(head.bbox_assigner, "assigner", head.bbox_assigner)
        rows.append(
            {
                **{name: value.detach().clone() for name, value in losses.items()},
                **{f"grad {n}": None if p.grad is None else p.grad.clone() for n, p in head.named_parameters()},
                **{f"grad x{level}": feature.grad for level, feature in enumerate(features)},
                "T": (float(assigner.pos_iou_thr), float(assigner.neg_iou_thr), float(assigner.min_pos_iou)),
                "beta": float(head.bbox_head.loss_bbox.beta),
            }
        )
    return rows


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.keys() == reference.keys()
        for name, value in mine.items():
            same = torch.equal(value, reference[name]) if torch.is_tensor(value) else value == reference[name]
            assert same, name


ORDINARY = [(2, 3)] * 10
ODD = [(0, 2), (1, 1), (0, 0), (9, 12), (12, 12), (12, 9), (1, 0), (3, 3), (2, 2), (5, 1)]


@pytest.mark.parametrize("objects", [ORDINARY, ODD], ids=["ordinary", "odd"])
@pytest.mark.parametrize("mask", [False, True], ids=["boxes", "masks"])
def test_both_on_is_mmdets_dynamic_head_to_the_last_bit(objects, mask):
    if mask and objects is ODD:
        objects = [(max(a, 1), b) for a, b in objects]  # mmdet's mask head needs a positive in the batch
    ours = trace(make("dynamic_rcnn.DynamicRoIHead", mask), objects, mask=mask)
    theirs = trace(make("mmdet.DynamicRoIHead", mask), objects, mask=mask)
    assert_same(ours, theirs)
    assert ours[-1]["T"][0] != 0.5 and ours[-1]["beta"] < 1.0  # the components did move


@pytest.mark.parametrize("objects", [ORDINARY, ODD], ids=["ordinary", "odd"])
def test_both_off_is_the_static_head_to_the_last_bit(objects):
    ours = trace(make("dynamic_rcnn.DynamicRoIHead", label_assignment=False, smooth_l1=False), objects)
    assert_same(ours, trace(make("mmdet.StandardRoIHead"), objects))
    assert ours[-1]["T"] == (0.5, 0.5, 0.5) and ours[-1]["beta"] == 1.0


def test_a_double_head_with_both_off_is_mmdets_to_the_last_bit():
    branches = {"type": "DoubleConvFCBBoxHead", "num_convs": 1, "num_fcs": 1, "conv_out_channels": 16}
    heads = []
    for kind in ("dynamic_rcnn.DynamicDoubleHeadRoIHead", "mmdet.DoubleHeadRoIHead"):
        content = config(kind, label_assignment=False, smooth_l1=False) | {"reg_roi_scale_factor": 1.3}
        content["bbox_head"] |= branches
        seed_all(0, "weights")
        heads.append(MODELS.build(ConfigDict(content)))
    assert_same(*(trace(head, ORDINARY[:3]) for head in heads))


def test_masks_without_a_positive_in_the_batch():
    """Images of crowds alone have no positive: the mask loss is 0, and training goes on."""
    head = make("dynamic_rcnn.DynamicRoIHead", mask=True)
    losses = head.loss(*batch(0, (0, 0), mask=True))
    assert float(losses["loss_mask"].detach()) == 0.0
    sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    assert head.statistics.summary()["positives"] == 0.0 and head.statistics.summary()["error_statistic"] is None
    later = head.loss(*batch(1, (2, 0), mask=True))
    assert float(later["loss_mask"].detach()) > 0 and head.statistics.summary()["positives"] > 0


def test_fewer_proposals_than_k_is_mmdets_too():
    ours = trace(make("dynamic_rcnn.DynamicRoIHead"), ORDINARY, proposals=2)
    assert_same(ours, trace(make("mmdet.DynamicRoIHead"), ORDINARY, proposals=2))


def test_dla_alone_moves_the_thresholds_and_leaves_beta():
    head = make("dynamic_rcnn.DynamicRoIHead", smooth_l1=False)
    rows = trace(head, ORDINARY)
    assert rows[-1]["T"][0] == head.schedules[0].iou_threshold != 0.5
    assert len(set(rows[-1]["T"])) == 1
    assert {row["beta"] for row in rows} == {1.0}


def test_dsl_alone_moves_beta_and_leaves_the_thresholds():
    head = make("dynamic_rcnn.DynamicRoIHead", label_assignment=False)
    rows = trace(head, ORDINARY)
    assert rows[-1]["beta"] == head.schedules[0].beta < 1.0
    assert {row["T"] for row in rows} == {(0.5, 0.5, 0.5)}


def test_dla_alone_is_both_with_beta_put_back():
    """What DLA alone trains is mmdet's dynamic head with its beta held at 1.0."""
    theirs = make("mmdet.DynamicRoIHead")
    update = MmdetDynamicRoIHead.update_hyperparameters

    def hold_beta(self: Any) -> Any:
        result = update(self)
        self.bbox_head.loss_bbox.beta = 1.0
        return result

    theirs.update_hyperparameters = hold_beta.__get__(theirs)
    assert_same(trace(make("dynamic_rcnn.DynamicRoIHead", smooth_l1=False), ORDINARY), trace(theirs, ORDINARY))


def test_an_image_without_proposals_and_objects_counts_as_zero():
    head = make("dynamic_rcnn.DynamicRoIHead")
    features, proposed, samples = batch(0, (0, 2))
    proposed[0] = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    head.loss(features, proposed, samples)
    assert head.statistics.ious[0] == 0


def test_more_objects_than_beta_topk_keeps_beta():
    """Ground truth is among the positives with a target of 0: the statistic is 0 and beta stays (mmdetection 3384)."""
    head = make("dynamic_rcnn.DynamicRoIHead")
    trace(head, [(12, 12)] * 3)
    assert head.schedules[0].beta == 1.0


def test_replayed_values_follow_the_windows_and_the_last_one_stays():
    head = make("dynamic_rcnn.DynamicRoIHead", label_assignment=False, smooth_l1=False)
    head.replay([(0.5, 1.0), (0.55, 0.5), (0.6125, 0.1875)])
    found = []
    for iteration in range(4 * CONSTANTS["update_iter_interval"]):
        found.append(tuple(head.current_thresholds().values()))
        head.loss(*batch(iteration, (2, 3)))
    length = CONSTANTS["update_iter_interval"]
    assert found == [(0.5, 1.0)] * length + [(0.55, 0.5)] * length + [(0.6125, 0.1875)] * 2 * length
    head.load_schedules([copy.deepcopy(head.schedules[0].state_dict())])
    assert head.current_thresholds() == {"T": 0.6125, "beta": 0.1875}


def test_t_and_beta_of_bf16_are_those_of_fp32():
    """Of the same proposals: features, losses and gradients are rounded, the statistics are not."""
    exact, rounded = make("dynamic_rcnn.DynamicRoIHead"), make("dynamic_rcnn.DynamicRoIHead")
    for iteration in range(2 * CONSTANTS["update_iter_interval"]):
        losses = []
        for head, enabled in ((exact, False), (rounded, True)):
            features, proposals, samples = batch(iteration, ORDINARY[iteration])
            seed_all(0, "iteration", iteration)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                levels = tuple(level.bfloat16() if enabled else level for level in features)
                losses.append(head.loss(levels, proposals, samples))
        assert losses[0]["loss_cls"] != losses[1]["loss_cls"]
    assert rounded.schedules[0].state_dict() == exact.schedules[0].state_dict()
    assert exact.schedules[0].updates == 2 and exact.schedules[0].beta < 1.0


def test_state_in_the_middle_of_a_window_continues_bit_for_bit():
    whole = make("dynamic_rcnn.DynamicRoIHead")
    rows = trace(whole, ORDINARY)
    first = make("dynamic_rcnn.DynamicRoIHead")
    trace(first, ORDINARY[:4])
    resumed = make("dynamic_rcnn.DynamicRoIHead")
    resumed.load_schedules([copy.deepcopy(first.schedules[0].state_dict())])
    assert resumed.current_thresholds() == {"T": rows[3]["T"][0], "beta": rows[3]["beta"]}
    for iteration in range(4, 10):
        seed_all(0, "iteration", iteration)
        resumed.loss(*batch(iteration, ORDINARY[iteration]))
    assert resumed.current_thresholds() == {"T": rows[-1]["T"][0], "beta": rows[-1]["beta"]}


class HostSynchronisations(TorchDispatchMode):
    """Counts the operators that make the host wait for a GPU, because they return a number or a size from it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("index", "index_put", "index_put_"):
            boolean = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
            self.counts[f"{name} with a mask"] += boolean
        elif name in ("_local_scalar_dense", "nonzero") or "unique" in name:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def synchronisations(kind: str, **switches: Any) -> Counter[str]:
    """Of one iteration's forward and backward pass, before the first update of T and beta."""
    head = make(kind, **switches)
    with HostSynchronisations() as mode:
        trace(head, ORDINARY[:1])
    return +mode.counts


@pytest.mark.parametrize("smooth_l1", [False, True], ids=["no_dsl", "dsl"])
@pytest.mark.parametrize("label_assignment", [False, True], ids=["no_dla", "dla"])
def test_dla_and_dsl_add_no_host_synchronisation(label_assignment: bool, smooth_l1: bool):
    ours = synchronisations("dynamic_rcnn.DynamicRoIHead", label_assignment=label_assignment, smooth_l1=smooth_l1)
    assert ours == synchronisations("mmdet.StandardRoIHead")
    theirs = synchronisations("mmdet.DynamicRoIHead")
    assert ours.keys() == theirs.keys() and ours.total() < theirs.total() and all(ours[n] <= theirs[n] for n in ours)


def test_dsl_needs_smooth_l1():
    wrong = config("dynamic_rcnn.DynamicRoIHead")
    wrong["bbox_head"]["loss_bbox"] = {"type": "L1Loss"}
    with pytest.raises(ValueError, match=r"smooth_l1 needs bbox_head\.loss_bbox of type SmoothL1Loss, not L1Loss"):
        MODELS.build(ConfigDict(wrong))


def test_weights_go_both_ways():
    ours, theirs, static = (
        make(k) for k in ("dynamic_rcnn.DynamicRoIHead", "mmdet.DynamicRoIHead", "mmdet.StandardRoIHead")
    )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    static.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(static.state_dict(), strict=True)

"""Soft-NMS through mmcv's own functions: a case by hand, a plain reference, and odd inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dynamic_rcnn import ops
from tests.dynamic_rcnn.ops.test_ops import random_boxes, reference_iou, reference_nms

ops.install()
from mmcv.ops import batched_nms, soft_nms  # noqa: E402

METHODS = ["naive", "linear", "gaussian"]


def reference(
    boxes: np.ndarray, scores: np.ndarray, method: str, threshold: float, sigma: float, min_score: float, offset: int
) -> tuple[list[int], list[float]]:
    """Soft-NMS as the paper's pseudo code has it, one pair at a time; a dropped box lowers nothing."""
    rest, lowered = list(range(len(boxes))), [float(score) for score in scores]
    kept: list[int] = []
    while rest:
        best = max(rest, key=lambda at: (lowered[at], -at))
        rest.remove(best)
        kept.append(best)
        for other in list(rest):
            iou = reference_iou(boxes[best], boxes[other], offset)
            linear = {"naive": 0.0, "linear": 1 - iou}.get(method, 1.0) if iou >= threshold else 1.0
            lowered[other] *= math.exp(-(iou**2) / sigma) if method == "gaussian" else linear
            if lowered[other] < min_score:
                rest.remove(other)
    return kept, [lowered[at] for at in kept]


def test_a_case_by_hand() -> None:
    """The second box has IoU 0.8 with the first, the third 0.25 (below the threshold), the fourth none."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 6, 10, 16], [50, 50, 60, 60]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.3])
    detections, kept = soft_nms(boxes, scores, iou_threshold=0.5, method="linear", min_score=0.001)
    assert kept.tolist() == [0, 2, 3, 1]
    torch.testing.assert_close(detections[:, 4], torch.tensor([0.9, 0.7, 0.3, 0.16]))  # 0.8 x (1 - 0.8)
    assert torch.equal(detections[:, :4], boxes[kept])
    _, kept = soft_nms(boxes, scores, iou_threshold=0.5, method="linear", min_score=0.2)
    assert kept.tolist() == [0, 2, 3]
    detections, kept = soft_nms(boxes[:2], scores[:2], sigma=0.5, method="gaussian")
    torch.testing.assert_close(detections[:, 4], torch.tensor([0.9, 0.8 * math.exp(-0.64 / 0.5)]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_equal_to_the_reference(method: str, offset: int, count: int) -> None:
    rng = np.random.RandomState(count)
    boxes, scores = random_boxes(rng, count), rng.uniform(0.05, 1, count)
    given = {"iou_threshold": 0.3, "sigma": 0.5, "min_score": 0.02}
    detections, kept = soft_nms(torch.tensor(boxes), torch.tensor(scores), **given, method=method, offset=offset)
    indices, lowered = reference(boxes, scores, method, 0.3, 0.5, 0.02, offset)
    assert kept.tolist() == indices
    assert detections.shape == (len(indices), 5)
    assert detections[:, 4].tolist() == pytest.approx(lowered, rel=1e-12)
    assert detections[:, :4].tolist() == boxes[indices].tolist()
    if method == "naive" and count:
        assert kept.tolist() == reference_nms(boxes, scores, 0.3, offset)


@pytest.mark.parametrize("method", METHODS)
def test_odd_boxes(method: str) -> None:
    """Boxes without an area, equal boxes, equal scores, and a first score below the minimum, which is kept."""
    boxes = torch.tensor([[3.0, 3, 3, 3], [3, 3, 3, 3], [0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 5, 5]])
    detections, kept = soft_nms(boxes, torch.full((5,), 0.5), iou_threshold=0.5, min_score=0.1, method=method)
    assert detections.isfinite().all() and detections[:, 4].max() <= 0.5
    dropped = method != "gaussian"  # exp(-1 / 0.5) x 0.5 is 0.07
    assert (sorted(kept.tolist()) == [0, 1, 2, 4] and dropped) or sorted(kept.tolist()) == [0, 1, 2, 4]
    _, kept = soft_nms(boxes[:1], torch.tensor([0.01]), min_score=0.1, method=method)
    assert kept.tolist() == [0]


def test_bfloat16_and_inputs_stay() -> None:
    boxes, scores = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]]), torch.tensor([0.9, 0.8])
    detections, _ = soft_nms(boxes.bfloat16(), scores.bfloat16(), method="linear")
    torch.testing.assert_close(detections[:, 4].float(), torch.tensor([0.9, 0.16]), rtol=0.02, atol=0)
    soft_nms(boxes, scores)
    assert scores.tolist() == torch.tensor([0.9, 0.8]).tolist() and boxes[1, 3] == 8


@pytest.mark.parametrize("split", [10000, 1])
def test_batched_soft_nms_keeps_classes_apart(split: int) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 10]])
    config = {"type": "soft_nms", "iou_threshold": 0.5, "min_score": 0.001, "split_thr": split}
    detections, kept = batched_nms(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 1]), config)
    assert kept.tolist() == [1, 2, 0]
    torch.testing.assert_close(detections[:, 4], torch.tensor([0.9, 0.7, 0.1]))  # 0.5 x (1 - 0.8)


@pytest.mark.skipif(not ops.has_compiled_mmcv(), reason="no compiled mmcv is installed (mmcv-lite is)")
@pytest.mark.parametrize("method", [0, 1, 2])
def test_equal_to_compiled_mmcv(method: int) -> None:
    import mmcv._ext as compiled

    boxes, scores = torch.tensor(random_boxes(np.random.RandomState(0), 50)).float(), torch.rand(50)
    found = []
    for module in (ops.TorchvisionExt(ops.NAME), compiled):
        dets = torch.zeros(50, 5)
        kept = module.softnms(boxes, scores, dets, 0.5, 0.5, 0.001, method, 0)
        found.append((kept, dets[: len(kept)]))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])

"""The operators that mmdet gets, against a plain reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from dynamic_rcnn import ops
from dynamic_rcnn.ops import torchvision_ops

ops.install()
from mmcv.ops import batched_nms, nms  # noqa: E402


def reference_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int = 0) -> list[int]:
    """Greedy NMS over xyxy boxes, one pair at a time."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(reference_iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(int(i))
    return kept


def reference_iou(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    return width * height / (area[0] + area[1] - width * height)


def random_boxes(rng: np.random.RandomState, count: int, size: float = 40) -> np.ndarray:
    corner = rng.uniform(0, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, size / 2, (count, 2))], axis=1)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_nms(threshold, offset, count):
    rng = np.random.RandomState(count)
    boxes, scores = random_boxes(rng, count), rng.permutation(count) / max(count, 1)
    detections, kept = nms(torch.tensor(boxes), torch.tensor(scores), threshold, offset=offset)
    assert kept.tolist() == reference_nms(boxes, scores, threshold, offset)
    assert torch.equal(detections[:, :4], torch.tensor(boxes)[kept])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.85])
def test_nms_of_groups_far_apart_is_torchvisions_of_all_boxes(threshold):
    """With equal scores, boxes without an area and a group of one box, to the last bit of every coordinate."""
    rng = np.random.RandomState(1)
    boxes = torch.tensor(random_boxes(rng, 300)).float()
    boxes[5, 2:] = boxes[5, :2]
    boxes[:, ::2] += torch.tensor(rng.randint(0, 4, (300, 1))) * 61.0
    boxes[7, ::2] += 900
    scores = torch.tensor(rng.randint(0, 40, 300) / 40).float()
    expected = torchvision.ops.nms(boxes, scores, threshold)
    assert nms(boxes, scores, threshold)[1].tolist() == expected.tolist()
    assert len(torchvision_ops._groups_apart(boxes)) == 5


def test_nms_score_threshold_and_maximum():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [0, 0, 9, 10]])
    scores = torch.tensor([0.9, 0.8, 0.05, 0.7])
    assert nms(boxes, scores, 0.5, score_threshold=0.1)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.5, max_num=1)[1].tolist() == [0]


def test_batched_nms_keeps_classes_apart():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    _, kept = batched_nms(
        boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 1]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert kept.tolist() == [1, 2]


@pytest.mark.skipif(ops.has_compiled_mmcv(), reason="a compiled mmcv is installed and has all operators")
def test_a_missing_operator_fails_with_a_message():
    from mmcv.ops import nms_match

    with pytest.raises(RuntimeError, match=r"operator 'nms_match' needs a compiled mmcv 2.1.*here are nms, softnms"):
        nms_match(torch.rand(3, 5), 0.5)


@pytest.mark.skipif(not ops.has_compiled_mmcv(), reason="no compiled mmcv is installed (mmcv-lite is)")
def test_equal_to_compiled_mmcv():
    stand_in = ops.TorchvisionExt(ops.NAME)
    import mmcv._ext as compiled

    boxes, scores = torch.tensor(random_boxes(np.random.RandomState(0), 50)).float(), torch.rand(50)
    kept = [module.nms(boxes, scores, iou_threshold=0.5, offset=0) for module in (stand_in, compiled)]
    assert torch.equal(*kept)

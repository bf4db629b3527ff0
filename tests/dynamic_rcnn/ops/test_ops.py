"""The operators that mmdet gets, against a plain reference in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dynamic_rcnn import ops

ops.install()
from mmcv.ops import batched_nms, nms, roi_align  # noqa: E402


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


def reference_roi_align(features, rois, size, scale, ratio, aligned) -> np.ndarray:
    """RoIAlign (average) as in Mask R-CNN, one sample point at a time, in float64."""
    _, channels, height, width = features.shape
    output = np.zeros((len(rois), channels, size, size))
    for k, (image, *box) in enumerate(rois):
        shift = 0.5 if aligned else 0.0
        x1, y1, x2, y2 = (value * scale - shift for value in box)
        roi_width, roi_height = x2 - x1, y2 - y1
        if not aligned:
            roi_width, roi_height = max(roi_width, 1.0), max(roi_height, 1.0)
        bin_w, bin_h = roi_width / size, roi_height / size
        nx = ratio if ratio > 0 else math.ceil(roi_width / size)
        ny = ratio if ratio > 0 else math.ceil(roi_height / size)
        for i in range(size):
            for j in range(size):
                total = np.zeros(channels)
                for a in range(ny):
                    for b in range(nx):
                        y = y1 + i * bin_h + (a + 0.5) * bin_h / ny
                        x = x1 + j * bin_w + (b + 0.5) * bin_w / nx
                        total += bilinear(features[int(image)], y, x, height, width)
                output[k, :, i, j] = total / max(nx * ny, 1)
    return output


def bilinear(feature: np.ndarray, y: float, x: float, height: int, width: int) -> np.ndarray:
    if y < -1.0 or y > height or x < -1.0 or x > width:
        return np.zeros(feature.shape[0])
    y, x = max(y, 0.0), max(x, 0.0)
    low_y, low_x = int(y), int(x)
    if low_y >= height - 1:
        low_y, y = height - 1, float(height - 1)
    if low_x >= width - 1:
        low_x, x = width - 1, float(width - 1)
    high_y, high_x = min(low_y + 1, height - 1), min(low_x + 1, width - 1)
    dy, dx = y - low_y, x - low_x
    top = feature[:, low_y, low_x] * (1 - dx) + feature[:, low_y, high_x] * dx
    bottom = feature[:, high_y, low_x] * (1 - dx) + feature[:, high_y, high_x] * dx
    return top * (1 - dy) + bottom * dy


def roi_cases() -> np.ndarray:
    """Ordinary, tiny, huge, outside, degenerate and second-image RoIs."""
    return np.array(
        [
            [0, 3.3, 4.1, 20.7, 17.2],
            [0, 5.0, 5.0, 5.4, 5.2],
            [1, -10.0, -8.0, 60.0, 50.0],
            [1, 30.0, 30.0, 45.0, 45.0],
            [0, 8.0, 8.0, 8.0, 8.0],
        ]
    )


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("scale", [0.25, 0.5])
def test_roi_align_forward_and_backward(ratio, aligned, scale):
    rng = np.random.RandomState(0)
    features = rng.normal(size=(2, 3, 9, 11))
    rois = roi_cases()
    expected = reference_roi_align(features, rois, 3, scale, ratio, aligned)
    given = torch.tensor(features, requires_grad=True)
    output = roi_align(given, torch.tensor(rois), 3, scale, ratio, "avg", aligned)
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=0, atol=1e-12)

    weights = rng.normal(size=expected.shape)
    output.backward(torch.tensor(weights))
    assert given.grad is not None
    # the operator is linear in the features: its gradient is the response to each unit feature, times the weights
    for image, channel, y, x in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 2, 8, 10), (1, 0, 4, 4), (0, 2, 1, 5)]:
        unit = np.zeros_like(features)
        unit[image, channel, y, x] = 1.0
        slope = (reference_roi_align(unit, rois, 3, scale, ratio, aligned) * weights).sum()
        assert float(given.grad[image, channel, y, x]) == pytest.approx(slope, abs=1e-12)


def test_roi_align_without_rois():
    given = torch.randn(1, 2, 8, 8, requires_grad=True)
    output = roi_align(given, torch.zeros(0, 5), 7, 0.25, 0, "avg", True)
    assert output.shape == (0, 2, 7, 7)
    output.sum().backward()
    assert given.grad is not None and not given.grad.any()


@pytest.mark.skipif(ops.has_compiled_mmcv(), reason="a compiled mmcv is installed and has all operators")
def test_a_missing_operator_fails_with_a_message():
    from mmcv.ops import soft_nms

    with pytest.raises(RuntimeError, match=r"the operator 'softnms' needs a compiled mmcv 2.1"):
        soft_nms(torch.rand(3, 4), torch.rand(3))


@pytest.mark.skipif(not ops.has_compiled_mmcv(), reason="no compiled mmcv is installed (mmcv-lite is)")
def test_equal_to_compiled_mmcv():
    stand_in = ops.TorchvisionExt(ops.NAME)
    import mmcv._ext as compiled

    boxes, scores = torch.tensor(random_boxes(np.random.RandomState(0), 50)).float(), torch.rand(50)
    kept = [module.nms(boxes, scores, iou_threshold=0.5, offset=0) for module in (stand_in, compiled)]
    assert torch.equal(*kept)
    features, rois = torch.randn(2, 3, 9, 11), torch.tensor(roi_cases()).float()
    outputs = []
    for module in (stand_in, compiled):
        output = torch.zeros(len(rois), 3, 7, 7)
        empty = torch.zeros(0)
        module.roi_align_forward(
            features,
            rois,
            output,
            empty,
            empty,
            aligned_height=7,
            aligned_width=7,
            spatial_scale=0.5,
            sampling_ratio=0,
            pool_mode=1,
            aligned=True,
        )
        outputs.append(output)
    torch.testing.assert_close(*outputs)

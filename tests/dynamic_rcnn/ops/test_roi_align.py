"""RoIAlign against a plain reference in float64, and against torchvision's kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import ops as torchvision_ops

from dynamic_rcnn import ops

ops.install()
from mmcv.ops import RoIAlign, roi_align  # noqa: E402


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


def torchvision_reference(
    features: Tensor, rois: Tensor, weights: Tensor, size: tuple[int, int], *sampling: float | bool
) -> tuple[Tensor, Tensor]:
    """torchvision's output, and its gradient for an output gradient of `weights`."""
    given = features.clone().requires_grad_()
    output = torchvision_ops.roi_align(given, rois, size, *sampling)
    return output, torch.autograd.grad(output, given, weights)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("shape", [(9, 11), (1, 13), (17, 1), (1, 1), (40, 25)])
def test_every_gradient_is_torchvisions(dtype, ratio, aligned, shape):
    """Random RoIs of all sizes and places, some on whole pixels, where rounding decides the number of samples."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, *shape, generator=generator).to(dtype)
    corner = torch.rand(60, 2, generator=generator) * 140 - 30
    rois = torch.cat([torch.arange(60)[:, None] % 3, corner, corner + torch.rand(60, 2, generator=generator) * 90], 1)
    rois[::4] = rois[::4].round()
    rois[1, 3:] = rois[1, 1:3] - 9  # inverted
    rois[2, 1:] = torch.tensor([4.0, 8.0, 4.0 + 4 * 7 * 2, 8.0 + 4 * 5])
    weights = torch.randn(60, 5, 7, 5, generator=generator).to(dtype)
    output, gradient = torchvision_reference(features, rois.to(dtype), weights, (7, 5), 0.25, ratio, aligned)
    given = features.clone().requires_grad_()
    ours = roi_align(given, rois.to(dtype), (7, 5), 0.25, ratio, "avg", aligned)
    ours.backward(weights)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(ours, output, rtol=0, atol=tolerance)
    torch.testing.assert_close(given.grad, gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_roi_that_is_not_a_number_is_zero(ratio):
    """A diverged model must reach the check of its losses."""
    given = torch.randn(1, 2, 9, 11, requires_grad=True)
    output = roi_align(given, torch.tensor([[0.0, math.nan, 1.0, math.nan, 8.0], [0, 1, 1, 8, 8]]), 3, 0.5, ratio)
    assert not output[0].any() and output[1].all()


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_gradcheck(ratio, aligned):
    given = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(roi_cases())
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 3, 0.25, ratio, "avg", aligned), (given,))


def test_memory_formats_give_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    features, rois = torch.randn(2, 6, 9, 11, generator=generator), torch.tensor(roi_cases()).float()
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = features.contiguous(memory_format=memory_format).requires_grad_()
        output = roi_align(given, rois, 7, 0.25, 0, "avg", True)
        found.append((output, *torch.autograd.grad(output.square().sum(), given)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_bfloat16_is_computed_in_float32():
    features, rois = torch.randn(2, 6, 9, 11), torch.tensor(roi_cases()).float()
    half = features.bfloat16().requires_grad_()
    output = roi_align(half, rois, 7, 0.25)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, torchvision_ops.roi_align(half.float(), rois, 7, 0.25, 0, True).bfloat16())
    output.sum().backward()
    assert half.grad is not None and half.grad.dtype == torch.bfloat16


def uses_sparse_product(output: Tensor) -> bool:
    nodes, found = [output.grad_fn], False
    while nodes:
        node = nodes.pop()
        found |= "SparseProduct" in type(node).__name__
        nodes += [each for each, _ in getattr(node, "next_functions", ()) if each is not None]
    return found


def test_mmcvs_layer_uses_it():
    given, rois = torch.randn(2, 3, 9, 11, requires_grad=True), torch.tensor(roi_cases()).float()
    output = RoIAlign(7, 0.25, 0)(given, rois)
    assert uses_sparse_product(output)
    with torch.no_grad():
        torch.testing.assert_close(RoIAlign(7, 0.25, 0)(given, rois), output)


def test_maximum_pooling_is_refused():
    with pytest.raises(RuntimeError, match=r"RoIAlign with pool_mode='max' needs a compiled mmcv 2.1"):
        roi_align(torch.randn(1, 1, 4, 4), torch.zeros(1, 5), 7, 0.25, 0, "max", True)

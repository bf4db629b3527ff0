"""The operators on a CPU and on CUDA, forward and backward, against the CPU in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynamic_rcnn import ops
from tests.devices import on_devices
from tests.dynamic_rcnn.ops.test_deform_conv import CASES, convolve, inputs
from tests.dynamic_rcnn.ops.test_ops import random_boxes, reference_nms
from tests.dynamic_rcnn.ops.test_roi_align import roi_cases

ops.install()
from mmcv.ops import batched_nms, nms, roi_align  # noqa: E402


@pytest.fixture(params=[False, True], ids=["default", "deterministic"])
def is_deterministic(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whether torch may only use deterministic algorithms."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


@on_devices
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_nms(device: str, offset: int, count: int) -> None:
    rng = np.random.RandomState(count)
    boxes, scores = random_boxes(rng, count), rng.permutation(count) / max(count, 1)
    _, kept = nms(torch.tensor(boxes, device=device), torch.tensor(scores, device=device), 0.5, offset=offset)
    assert kept.device.type == device and kept.tolist() == reference_nms(boxes, scores, 0.5, offset)


@on_devices
def test_nms_by_class_is_the_cpus(device: str) -> None:
    rng = np.random.RandomState(0)
    boxes, scores = torch.tensor(random_boxes(rng, 500)).float(), torch.tensor(rng.permutation(500) / 500).float()
    labels = torch.tensor(rng.randint(0, 5, 500))
    settings = {"type": "nms", "iou_threshold": 0.5}
    _, expected = batched_nms(boxes, scores, labels, settings)
    _, kept = batched_nms(boxes.to(device), scores.to(device), labels.to(device), settings)
    assert kept.tolist() == expected.tolist() and 0 < len(kept) < 500


@on_devices
@pytest.mark.parametrize("gradient", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align(device: str, gradient: bool, ratio: int, aligned: bool, is_deterministic: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    features, rois = torch.randn(2, 6, 30, 41, generator=generator), torch.tensor(roi_cases()).float()
    slopes = torch.randn(len(rois), 6, 7, 5, generator=generator)
    settings: tuple[Any, ...] = ((7, 5), 0.5, ratio, "avg", aligned)
    exact = features.double().requires_grad_()
    expected = roi_align(exact, rois.double(), *settings)
    given = features.to(device).requires_grad_(gradient)
    found = roi_align(given, rois.to(device), *settings)
    assert found.dtype == torch.float32 and found.requires_grad == gradient
    torch.testing.assert_close(found.double().cpu(), expected, rtol=0, atol=1e-5)
    if gradient:
        (by_device,) = torch.autograd.grad(found, given, slopes.to(device), retain_graph=True)
        (reference,) = torch.autograd.grad(expected, exact, slopes.double())
        torch.testing.assert_close(by_device.double().cpu(), reference, rtol=0, atol=2e-5)
        again = torch.autograd.grad(found, given, slopes.to(device))[0]
        assert torch.equal(again, by_device) or not (device == "cpu" or is_deterministic)


@on_devices
def test_roi_align_at_inference_needs_no_more_memory_in_deterministic_mode(device: str, is_deterministic: bool) -> None:
    """torchvision's function would gather 4 x 37 x 50 samples per bin of each of these RoIs that cover the image."""
    features = torch.randn(1, 64, 260, 350, device=device)
    rois = torch.tensor([[0.0, 0.0, 0.0, 1400.0, 1040.0]], device=device).repeat(50, 1)
    with torch.profiler.profile(profile_memory=True) as profiler:
        roi_align(features, rois, 7, 0.25, 0, "avg", True)
    calls = [event.key for event in profiler.key_averages()]
    assert "torchvision::roi_align" in calls and "aten::index" not in calls


@on_devices
@pytest.mark.parametrize("case", CASES)
def test_deformable_convolution(case: tuple[Any, ...], device: str, is_deterministic: bool) -> None:
    """On CUDA its gradients have no deterministic form: deterministic mode says so instead of ignoring it."""
    exact = {key: value if value is None else value.requires_grad_() for key, value in inputs(case, 0.7, False).items()}
    given: dict[str, Tensor | None] = {
        key: None if value is None else value.detach().float().to(device).requires_grad_()
        for key, value in exact.items()
    }
    expected = convolve(case, exact)
    if device == "cuda" and is_deterministic:
        with pytest.raises(RuntimeError, match=r"^deform_conv2d_backward \(DCN\) does not have a determ"):
            convolve(case, given)
        with torch.no_grad():
            torch.testing.assert_close(convolve(case, given).double().cpu(), expected, rtol=0, atol=1e-5)
        return
    found = convolve(case, given)
    torch.testing.assert_close(found.double().cpu(), expected, rtol=0, atol=1e-5)
    expected.square().sum().backward()
    found.square().sum().backward()
    for key, value in given.items():
        if value is not None:
            torch.testing.assert_close(value.grad.double().cpu(), exact[key].grad, rtol=1e-4, atol=1e-4)

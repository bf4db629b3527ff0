"""Deterministic mode: training uses no operator that CUDA has in a nondeterministic form alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step
from tests.devices import on_devices
from tests.dynamic_rcnn.method.test_on_devices import trace
from tests.dynamic_rcnn.method.test_roi_head import ORDINARY, make
from tests.dynamic_rcnn.runs import small_spec

# As torch's documentation of use_deterministic_algorithms lists them for the versions 2.6 to 2.14, where a detector
# could call them, and torchvision's: its kernels refuse to run up to version 0.28, and say nothing from then on.
REFUSED = {
    *("kthvalue", "median", "nanmedian", "histc", "cumsum", "put", "put_", "nll_loss2d_forward", "nll_loss2d"),
    *("grid_sampler_2d_backward", "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward"),
    *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "reflection_pad2d_backward"),
    *("_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward", "_deform_conv2d_backward"),
}


class Operators(TorchDispatchMode):
    """Collects the names of the operators that run, in both passes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name != "cumsum" or args[0].is_floating_point():  # of integers it has one result
            self.names.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@on_devices
def test_a_training_step(tmp_path: Any, device: str) -> None:
    spec = small_spec(tmp_path)
    root, _ = dataset.prepare(spec.dataset)
    model = build.build_model(spec).to(device).train()
    step = Step(model, build.build_optimizer(spec, model), Precision("fp32", torch.device(device)), spec.seed)
    images = build.build_dataset(spec, "train", root)
    batches = build.Batches(images, spec.seed, spec.config["train"], range(1)).between(0, 1)
    with Operators() as found:
        step.train(0, next(batches))
    assert {"topk", "convolution_backward", "_embedding_bag_forward_only"} <= found.names
    assert found.names & REFUSED == set()


@on_devices
def test_the_losses_of_a_mask_head(device: str) -> None:
    head = make("dynamic_rcnn.DynamicRoIHead", mask=True).to(device)
    with Operators() as found:
        trace(head, ORDINARY[:1], mask=True)
    assert "binary_cross_entropy_with_logits" in found.names
    assert found.names & REFUSED == set()


def test_the_search_finds_an_operator_that_is_refused() -> None:
    with Operators() as found:
        torch.rand(3).median(dim=0)
    assert found.names & REFUSED == {"median"}

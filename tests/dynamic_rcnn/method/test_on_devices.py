"""The RoI head on a CPU and on CUDA: mmdet's head in float64 as reference, mmdet's on the same device, and waiting."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynamic_rcnn.engine.seeding import seed_all
from tests.devices import on_devices
from tests.dynamic_rcnn.method.test_roi_head import ODD, ORDINARY, HostSynchronisations, batch, make

OURS, THEIRS, STATIC = "dynamic_rcnn.DynamicRoIHead", "mmdet.DynamicRoIHead", "mmdet.StandardRoIHead"
BOTH = [False, True]


@pytest.fixture(autouse=True)
def plain_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as engine.precision sets it for fp32


def moved_batch(head: Any, iteration: int, counts: tuple[int, ...], mask: bool) -> tuple[Any, Any, Any]:
    """The inputs of an iteration on the device of a head, and in its precision."""
    where = next(head.parameters())
    features, proposals, samples = batch(iteration, counts, mask=mask)
    proposals = [each.to(where.device) for each in proposals]
    samples = [each.to(where.device) for each in samples]
    for instances in (*proposals, *(each.gt_instances for each in samples)):
        instances.bboxes = instances.bboxes.to(where.dtype)
    return tuple(level.detach().to(where).requires_grad_() for level in features), proposals, samples


def trace(head: Any, objects: list[tuple[int, ...]], mask: bool = False) -> list[dict[str, Any]]:
    """Assignments, losses, gradients, T and beta over seeded iterations, on the CPU and in double."""
    assigner = getattr(head.bbox_assigner, "assigner", head.bbox_assigner)
    assigned: list[Tensor] = []
    assign: Callable[..., Any] = assigner.assign

    def record(*args: Any, **kwargs: Any) -> Any:
        result = assign(*args, **kwargs)
        assigned.append(result.gt_inds.cpu())
        return result

    assigner.assign = record
    rows = []
    for iteration, counts in enumerate(objects):
        features, proposals, samples = moved_batch(head, iteration, counts, mask)
        seed_all(0, "iteration", iteration)
        head.zero_grad()
        losses = head.loss(features, proposals, samples)
        sum(value for name, value in losses.items() if name.startswith("loss")).backward()
        gradients = {name: each.grad for name, each in head.named_parameters() if each.grad is not None}
        gradients |= {f"x{level}": each.grad for level, each in enumerate(features)}
        row = {name: each.detach().double().cpu() for name, each in (losses | gradients).items()}
        thresholds = {"T": float(assigner.pos_iou_thr), "beta": float(head.bbox_head.loss_bbox.beta)}
        rows.append({**row, **thresholds, "assigned": torch.cat(assigned)})
        assigned.clear()
    return rows


@on_devices
@pytest.mark.parametrize("objects", [ORDINARY, ODD], ids=["ordinary", "odd"])
@pytest.mark.parametrize("mask", BOTH, ids=["boxes", "masks"])
def test_float32_agrees_with_mmdets_head_in_float64_on_the_cpu(device: str, objects: Any, mask: bool) -> None:
    """The same assignments; T, beta, losses and gradients to rounding."""
    if mask:
        objects = [(max(first, 1), second) for first, second in objects]  # mmdet's mask head needs a positive
    rows = trace(make(OURS, mask).to(device), objects, mask)
    expected = trace(make(THEIRS, mask).double(), objects, mask)
    assert expected[-1]["T"] != 0.5 and expected[-1]["beta"] < 1.0
    for row, reference in zip(rows, expected, strict=True):
        assert row.keys() == reference.keys()
        assert torch.equal(row.pop("assigned"), reference.pop("assigned"))
        assert (row.pop("T"), row.pop("beta")) == pytest.approx((reference.pop("T"), reference.pop("beta")), abs=2e-6)
        for name, value in row.items():
            torch.testing.assert_close(value, reference[name], rtol=2e-4, atol=2e-4, msg=name)


@on_devices
@pytest.mark.parametrize("both", BOTH, ids=["off", "on"])
def test_losses_t_and_beta_are_those_of_mmdet_on_the_same_device_to_the_last_bit(device: str, both: bool) -> None:
    ours = trace(make(OURS, label_assignment=both, smooth_l1=both).to(device), ORDINARY)
    theirs = trace(make(THEIRS if both else STATIC).to(device), ORDINARY)
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.equal(mine["assigned"], reference["assigned"])
        names = ("loss_cls", "loss_bbox", "acc", "T", "beta")
        assert [float(mine[name]) for name in names] == [float(reference[name]) for name in names]


class CopiedNumbers(TorchFunctionMode):
    """Counts tensors made of Python's numbers: on CUDA the host waits until they are copied."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") in ("new_tensor", "tensor")
        return func(*args, **(kwargs or {}))


def waits(kind: str, device: str, **switches: Any) -> tuple[dict[str, int], int]:
    """Operators and copies that make the host wait in an iteration; and how often it did on CUDA, as torch counts."""
    head = make(kind, **switches).to(device)
    trace(head, ORDINARY[:1])
    inputs = moved_batch(head, 1, ORDINARY[1], False)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as warned, HostSynchronisations() as mode, CopiedNumbers() as copied:
            warnings.simplefilter("always")
            losses = head.loss(*inputs)
            sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    counts = {**+mode.counts, "copied numbers": copied.count}
    return counts, sum("synchronizing CUDA operation" in str(each.message) for each in warned)


@on_devices
@pytest.mark.parametrize("both", BOTH, ids=["off", "on"])
def test_dla_and_dsl_do_not_make_the_host_wait(device: str, both: bool) -> None:
    ours, static, theirs = (
        waits(OURS, device, label_assignment=both, smooth_l1=both),
        waits(STATIC, device),
        waits(THEIRS, device),
    )
    assert ours[0] == static[0] and static[0]["copied numbers"] > 0
    assert sum(ours[0].values()) < sum(theirs[0].values())
    assert ours[1] <= static[1] and (device == "cpu" or static[1] > 0)

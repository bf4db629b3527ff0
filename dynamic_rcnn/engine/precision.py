"""The numerical precision of a run and its deterministic mode: `train.precision` and `train.deterministic`.

Weights, gradients, the optimizer and the statistics that move T and beta are float32 in every precision. bf16 and fp16
run the forward pass under torch.autocast; fp16 also scales the loss. mmengine's AmpOptimWrapper would do the same, but
refuses to run without a GPU.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.provenance import Arithmetic

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_ON_CPU = ("fp32", "bf16")
CUBLAS, _WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")  # the values that torch accepts


def configure(train: Mapping[str, Any], device: torch.device) -> None:
    """Set torch's flags for TF32 and determinism. train: the section of that name in a run's configuration.

    In deterministic mode an operator without a deterministic form raises RuntimeError, which `ending` words. Raises
    UserError for a precision that the device does not have, and for an environment that rules out deterministic mode.
    """
    precision = train["precision"]
    if device.type == "cpu" and precision not in _ON_CPU:
        raise UserError(f"base.train.precision={precision}: needs a GPU; on a CPU use {' or '.join(_ON_CPU)}")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"base.train.precision=bf16: {torch.cuda.get_device_name()} does not have it; use fp16 or fp32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(train["deterministic"])
    if train["deterministic"] and os.environ.setdefault(CUBLAS, _WORKSPACES[0]) not in _WORKSPACES:  # cuBLAS reads it
        rule = f"base.train.deterministic=true needs {' or '.join(_WORKSPACES)}; unset it"
        raise UserError(f"{CUBLAS}={os.environ[CUBLAS]}: {rule}")


def describe(train: Mapping[str, Any], device: torch.device) -> Arithmetic:
    """What `configure` has set, and the versions that decide how a GPU computes."""
    versions: dict[str, Any] = {}
    if device.type == "cuda":
        versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver_version()}
    return Arithmetic(
        precision=train["precision"],
        deterministic=torch.are_deterministic_algorithms_enabled(),
        tf32=torch.backends.cudnn.allow_tf32,
        **versions,
    )


def _driver_version() -> str | None:
    with suppress(OSError, StopIteration):
        words = Path("/proc/driver/nvidia/version").read_text("utf-8").split()
        return next(word for word in words if re.fullmatch(r"\d+(\.\d+)+", word))
    return None


class Precision:
    """How a run's step computes: the forward pass under autocast, and for fp16 a scaled loss.

    Args:
        name: one of fp32, tf32, bf16 and fp16.
        device: where the model is.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.dtype = _AUTOCAST.get(name)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the parameters."""
        self.scaler.scale(loss).backward()

    def step(self, optimizer: OptimWrapper) -> None:
        """Clip the gradients if the optimizer is configured to, and update the weights.

        With fp16 an update whose gradients are not finite is skipped, and the scale of the loss is halved.
        """
        self.scaler.unscale_(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The scale of the loss; empty for other precisions than fp16."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if state:
            self.scaler.load_state_dict(state)

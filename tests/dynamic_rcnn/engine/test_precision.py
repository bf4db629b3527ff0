"""Precision and deterministic mode: what they set and what they refuse. test_on_devices.py trains with them."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from dynamic_rcnn.engine import precision
from dynamic_rcnn.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def flags() -> Any:
    """Restores torch's global flags."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_a_precision_that_needs_a_gpu_is_refused_on_a_cpu(name: str, flags: Any) -> None:
    with pytest.raises(UserError, match=rf"base.train.precision={name}: needs a GPU; on a CPU use fp32 or bf16"):
        precision.configure({"precision": name, "deterministic": False}, CPU)


def test_tf32_is_used_only_where_it_is_asked_for(flags: Any) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    precision.configure({"precision": "fp32", "deterministic": False}, CPU)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_mode_sets_torchs_flags(flags: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    precision.configure({"precision": "fp32", "deterministic": True}, CPU)
    assert torch.are_deterministic_algorithms_enabled() and os.environ[precision.CUBLAS] == ":4096:8"
    precision.configure({"precision": "fp32", "deterministic": False}, CPU)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_environment_without_deterministic_matrix_products_is_refused(flags: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv(precision.CUBLAS, ":0:0")
    with pytest.raises(UserError, match=r"^CUBLAS_WORKSPACE_CONFIG=:0:0: base.train.deterministic=true needs :4"):
        precision.configure({"precision": "fp32", "deterministic": True}, CPU)

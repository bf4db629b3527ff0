"""The devices of tests that run on a CPU and, marked `gpu`, on CUDA: `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

CPU = "cpu"
NO_CUDA = "needs a GPU: torch.cuda.is_available() is False"
ON_CUDA = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA))
CUDA = pytest.param("cuda", marks=ON_CUDA)

on_devices = pytest.mark.parametrize("device", [CPU, CUDA])

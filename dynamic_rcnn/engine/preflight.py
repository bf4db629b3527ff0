"""A check of the nodes before a run trains on them: GPUs, a matrix product, a sum over all processes, and disks.

Runs if `ProcessEnv.preflight` is set, before anything else needs the device. Does not touch the run's random numbers.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch import Tensor

from dynamic_rcnn.data.stage import expand
from dynamic_rcnn.engine.start import select_device
from dynamic_rcnn.errors import PreflightError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.heartbeat import beat

LEAST_FREE = 10**9  # bytes, for checkpoints
_SUM_S = 300.0  # NCCL waits for hours
_SIDE = 512
_NUMBERS = 1 << 20


def check(stage: str | None) -> str:
    """Check this process's share. Returns a line for the attempt's record.

    stage: `dataset.stage` of the run, or None. Raises PreflightError for a fault of the node, and OSError if the run
    folder, which is the working directory, has less than LEAST_FREE bytes free.
    """
    started, node = time.monotonic(), os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    device = select_device()
    _check_gpus(device, node)
    _check_product(device, node)
    disks = [_check_run_folder()] + ([] if stage is None else [_check_stage(stage, node)])
    _check_sum(device, node)
    sums = f"{distributed.world_size()} processes reach each other" if distributed.world_size() > 1 else "one process"
    what = ", ".join([sums, f"the matrix product on {device.type} is right", *disks])
    return f"preflight of {node} passed in {time.monotonic() - started:.1f} s: {what}"


def _check_gpus(device: torch.device, node: str) -> None:
    allocated = os.environ.get("SLURM_GPUS_ON_NODE", "0")
    if allocated.isdigit() and int(allocated) and device.type == "cpu":
        raise PreflightError(node, f"Slurm allocated GPUs ({allocated}), and torch sees none")


def _check_product(device: torch.device, node: str) -> None:
    """Multiply matrices of small integers, which every precision represents exactly."""
    numbers = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-8, 8, (_SIDE, _SIDE), generator=numbers) for _ in range(2))
    try:
        found = _multiply(left.to(device, torch.float32), right.to(device, torch.float32)).cpu()
    except RuntimeError as error:
        raise PreflightError(node, f"the matrix product failed ({str(error).splitlines()[0]})") from error
    if not torch.equal(found.long(), left @ right):
        raise PreflightError(node, f"the matrix product on {device.type} is wrong")


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    return left @ right


def _check_sum(device: torch.device, node: str) -> None:
    """Sum a tensor over the processes, as training sums gradients."""
    count = distributed.world_size()
    numbers = torch.full((_NUMBERS,), distributed.rank() + 1.0, device=device)
    errors: list[Exception] = []

    def work() -> None:
        try:
            distributed.sum_gradients([numbers])
            numbers.cpu()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_SUM_S)
    beat()
    if errors:
        raise errors[0]
    if thread.is_alive():
        alone = os.environ.get("SLURM_JOB_NUM_NODES", "1") == "1"
        raise PreflightError(node if alone else None, f"the sum over {count} processes took over {_SUM_S:.0f} s")
    if count > 1 and not bool((numbers == count * (count + 1) / 2).all()):
        raise PreflightError(node, f"the sum over {count} processes is wrong")


def _check_run_folder() -> str:
    free = shutil.disk_usage(Path()).free
    if free < LEAST_FREE:
        raise OSError(errno.ENOSPC, f"the run folder has {free / 1e9:.2f} GB free, less than {LEAST_FREE / 1e9:.0f} GB")
    return f"{free / 1e9:.0f} GB free in the run folder"


def _check_stage(stage: str, node: str) -> str:
    folder = expand(stage)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
        return f"{shutil.disk_usage(folder).free / 1e9:.0f} GB free in {folder}"
    except OSError as error:
        raise PreflightError(node, f"dataset.stage: cannot write to {folder} ({error.strerror})") from error

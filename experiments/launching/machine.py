"""The cores and GPUs of this machine, and how runs share them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from dynamic_rcnn.errors import UserError

NVIDIA_SMI_S = 30.0


def slots_and_threads(
    processes: int, slots: int | None, threads: int | None, gpus: Sequence[str], cores: int
) -> tuple[int, int]:
    """How many runs to start at a time, and the threads of each of their processes.

    Each of a run's processes has a GPU of its own where there are any. What the user gave is kept.
    """
    if gpus and processes > len(gpus):
        raise UserError(
            f"cluster.processes={processes}: each process needs its own GPU, and {len(gpus)} are visible "
            f"({','.join(gpus)}); give at most {len(gpus)}, or set CUDA_VISIBLE_DEVICES= to train on the CPU"
        )
    slots = slots or max(1, (len(gpus) or cores) // processes)
    return slots, threads or max(1, cores // (slots * processes))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by index or by the names in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"nvidia-smi -L: {error}; continuing without GPUs (set CUDA_VISIBLE_DEVICES to use them)", file=sys.stderr
        )
        return []
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]

"""Set-up of every test session."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest -n 2 occupies all cores by itself: more threads of torch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLURM = "tests/slurm"


class ByFile(LoadScopeScheduling):
    """Each process (pytest -n 2) takes a file at a time, and one of them all files of Slurm: they share a cluster."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return SLURM if file.startswith(f"{SLURM}/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)

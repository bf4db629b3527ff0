"""Set-up of every test session."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest -n 2 occupies all cores by itself: more threads of torch would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# torch decides at the first matrix product on CUDA whether cuBLAS is deterministic, in whichever test that is.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

SLURM = "tests/slurm/"
LONGEST = (
    SLURM,
    "tests/dynamic_rcnn/parallel/",
    "tests/dynamic_rcnn/test_train.py",
    "tests/dynamic_rcnn/engine/",
    "tests/experiments/launching/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        """Gives each process (pytest -n 2) one file at a time. All Slurm tests run in one process, on one cluster."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return SLURM if file.startswith(SLURM) else file

    config.option.loadscopereorder = (
        False  # would sort files by their number of tests, which says little about their time
    )
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that they do not run alone at the end."""

    def rank(item: pytest.Item) -> int:
        return next((rank for rank, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=rank)

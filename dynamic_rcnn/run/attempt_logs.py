"""The log files of a run's attempts: what each of its processes prints."""

from __future__ import annotations

import re
from pathlib import Path

from dynamic_rcnn.run.files import LOGS

_NAME = re.compile(r"attempt(\d+)(?:\.rank(\d+))?\.log")


def log_name(attempt: int, rank: int = 0) -> str:
    """The path of a log file, relative to the run directory."""
    return f"{LOGS}/attempt{attempt}.log" if rank == 0 else f"{LOGS}/attempt{attempt}.rank{rank}.log"


def find_logs(run_dir: Path) -> dict[tuple[int, int], Path]:
    """The log files of a run by (attempt, rank)."""
    found = ((_NAME.fullmatch(path.name), path) for path in (run_dir / LOGS).glob("attempt*.log"))
    return {(int(match[1]), int(match[2] or 0)): path for match, path in found if match}

"""What killed processes left of the files that they wrote under temporary names."""

from __future__ import annotations

import glob
from pathlib import Path


def leftovers(path: Path, kind: str) -> list[Path]:
    """.<name>.<process>.<kind> beside `path`, of processes that are no more."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*.{kind}")
    return [left for left in found if _is_of_none(left.name.split(".")[-2])]


def _is_of_none(process: str) -> bool:
    return process.isdecimal() and not Path(f"/proc/{process}").exists()

"""The last rows of a run's logs, read from their ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import EVALUATIONS, TRAIN_LOG

_ROW_BYTES = 4096  # holds a row of any of them


def last_row(path: Path) -> dict[str, Any]:
    """The last complete line of a run's train.jsonl, read from its end; {} if there is none."""
    row = _last_rows(path / TRAIN_LOG, 1)[-1]
    numbers = ("iteration", "loss", "T", "beta", "seconds")
    return row if all(isinstance(row.get(key), int | float) for key in numbers) else {}


def last_evaluations(path: Path) -> list[dict[str, Any]]:
    """The last metrics, two rows or fewer, that a run evaluated during training, oldest first."""
    return [row for row in _last_rows(path / EVALUATIONS, 2) if isinstance(row.get("AP"), int | float)]


def _last_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """The last complete lines of a file, oldest first; [{}] if they cannot be read."""
    try:
        rows = [json.loads(line) for line in read_end(path, count * _ROW_BYTES).split("\n")[:-1][-count:]]
    except (OSError, ValueError):
        return [{}]
    return rows if rows and all(isinstance(row, dict) for row in rows) else [{}]


def read_end(path: Path, size: int) -> str:
    """The last `size` bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read().decode(errors="replace")

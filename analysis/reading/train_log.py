"""train.jsonl of a run: what it logged, a row an iteration, as columns; and its histograms, summed early and late."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.reading.run_files import CURVES
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import directory

KINDS = ("iou", "target")
_NUMBER = (float, int, type(None))


@dataclass(frozen=True)
class TrainLog:
    """columns: of CURVES, a value a row, NaN where there is none. histograms: see `_histograms`."""

    columns: dict[str, NDArray[np.float64]]
    histograms: list[dict[str, Any]]

    def fault(self, last: int) -> str | None:
        """What a run that finished at iteration `last` should have logged and has not; None if nothing is missing."""
        iterations = self.columns["iteration"]
        if not len(iterations):
            return "missing or empty, though the run is done"
        if (np.diff(iterations) <= 0).any() or iterations[-1] > last:
            return f"its iterations do not rise from row to row, up to {last}"
        if last - iterations[-1] > np.diff(iterations, prepend=0).max():
            return f"ends at iteration {iterations[-1]:.0f}, though the run is done at {last}"
        return None


EMPTY = TrainLog({name: np.empty(0) for name in CURVES}, [])


def read_train_log(path: Path) -> TrainLog:
    """The log at `path`, EMPTY if there is none. Raises UserError for what is no number, no count, or infinite."""
    rows = directory.read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not _is_count(row.get("iteration")):
            raise UserError(f"{path}: row {number}: field 'iteration' must be there, and a whole number")
        for name in CURVES[1:]:
            if not isinstance(row.get(name), _NUMBER):
                raise UserError(f"{path}: row {number}: field '{name}' is {row[name]!r}; it must be a number")
    return TrainLog(_columns(path, rows), _histograms(path, rows))


def _columns(path: Path, rows: list[dict[str, Any]]) -> dict[str, NDArray[np.float64]]:
    try:
        found = {name: np.array([row.get(name) for row in rows], np.float64) for name in CURVES}
    except OverflowError:
        raise UserError(f"{path}: a row holds a number that is too large") from None
    for name, values in found.items():
        if np.isinf(values).any():
            raise UserError(f"{path}: field '{name}' is infinite in row {1 + int(np.isinf(values).argmax())}")
    return found


def _histograms(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the first and the last tenth of logged rows counted: a row a kind (iou, target) and when (early, late).

    counts: summed over the logged iterations, a number a bin. Runs of before there were histograms have none.
    """
    found = []
    few = max(1, len(rows) // 10)
    for when, part in (("early", rows[:few]), ("late", rows[-few:])):
        for kind in KINDS:
            lists = [row[f"{kind}_histogram"] for row in part if row.get(f"{kind}_histogram") is not None]
            if not all(isinstance(each, list) and all(map(_is_count, each)) for each in lists):
                raise UserError(f"{path}: field '{kind}_histogram' must be a list of counts in every row")
            if lists and len({len(each) for each in lists}) == 1:
                counts = [sum(column) for column in zip(*lists, strict=True)]
                found.append({"kind": kind, "when": when, "counts": counts})
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 53

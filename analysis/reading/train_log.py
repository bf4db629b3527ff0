"""train.jsonl of a run as columns, and its histograms summed over early and late training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import files
from dynamic_rcnn.run.train_log import HISTOGRAMS, LOG_COLUMNS

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Row = msgspec.defstruct(
    "_Row",
    [
        ("iteration", _Count),
        *((name, float | None, None) for name in LOG_COLUMNS[1:]),
        *((f"{kind}_histogram", list[_Count] | None, None) for kind in HISTOGRAMS),
    ],
)


@dataclass(frozen=True)
class TrainLog:
    """A run's training curves.

    columns: an array of shape (logged iterations,) for each name in LOG_COLUMNS; NaN where a value is missing.
    histograms: one dict per kind (iou, target) and when (early, late) with the counts per bin, summed over the
        first or last tenth of the logged iterations. Empty for runs that logged none.
    is_cut: whether the last line is incomplete; it is left out.
    """

    columns: dict[str, NDArray[np.float64]]
    histograms: list[dict[str, Any]]
    is_cut: bool = False

    def fault(self, last: int) -> str | None:
        """Why this cannot be the whole log of a run that finished at iteration `last`, or None."""
        iterations = self.columns["iteration"]
        if not len(iterations):
            return "missing or empty, though the run is done"
        if self.is_cut:
            return "the last line is incomplete, though the run is done"
        if (np.diff(iterations) <= 0).any() or iterations[-1] > last:
            return f"iterations do not increase from row to row, up to {last}"
        steps = np.diff(iterations, prepend=0)
        longer = np.flatnonzero(steps > (steps[:-1] if len(steps) > 1 else steps).min())  # the last one may be shorter
        if len(longer):
            at = longer[0]
            return f"rows between iterations {iterations[at] - steps[at]:.0f} and {iterations[at]:.0f} are missing"
        if last - iterations[-1] > steps.max():
            return f"ends at iteration {iterations[-1]:.0f}, though the run is done at {last}"
        return None


EMPTY = TrainLog({name: np.empty(0) for name in LOG_COLUMNS}, [])


def read_train_log(path: Path) -> TrainLog:
    """Read the log at `path`, EMPTY if there is none. The incomplete last line of a killed writer is left out.

    Raises UserError if a line is not valid JSON, or a field is not a finite number or a count.
    """
    if not path.exists():
        return EMPTY
    decode, rows, is_cut = msgspec.json.Decoder(_Row).decode, [], False
    lines = files.read_text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                rows.append(decode(line))
        except (msgspec.MsgspecError, RecursionError) as error:
            if number == len(lines) and not isinstance(error, msgspec.ValidationError):  # the last line is not complete
                is_cut = True
                break
            raise UserError(f"{path}: line {number}: {_reason(error)}") from None
    values = np.array([msgspec.structs.astuple(row)[: len(LOG_COLUMNS)] for row in rows], np.float64)
    columns = values.reshape(len(rows), len(LOG_COLUMNS)).T
    return TrainLog(dict(zip(LOG_COLUMNS, columns, strict=True)), _histograms(rows), is_cut)


def _reason(error: Exception) -> str:
    """The rule that a line breaks, with its field first: "field 'T': expected float or null, got str"."""
    rule, _, field = str(error).replace("`", "").replace(" | ", " or ").partition(" - at $.")
    rule = rule.removeprefix("JSON is malformed: ")
    rule = rule[:1].lower() + rule[1:]
    if isinstance(error, msgspec.ValidationError):
        return f"field '{field}': {rule}" if field else rule
    return f"not valid JSON ({rule})"


def _histograms(rows: list[Any]) -> list[dict[str, Any]]:
    found = []
    few = max(1, len(rows) // 10)
    for when, part in (("early", rows[:few]), ("late", rows[-few:])):
        for kind in HISTOGRAMS:
            counts = [each for row in part if (each := getattr(row, f"{kind}_histogram")) is not None]
            if len({len(each) for each in counts}) == 1:
                found.append({"kind": kind, "when": when, "counts": np.sum(counts, axis=0).tolist()})
    return found

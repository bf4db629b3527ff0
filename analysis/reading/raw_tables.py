"""What was read of run directories: rows as they come, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dynamic_rcnn.metrics.names import BOX_METRICS, MASK_METRICS
from dynamic_rcnn.run.results import TimingResults
from dynamic_rcnn.run.train_log import LOG_COLUMNS

# fmt: off
RUN_COLUMNS = [
    "path", "dataset", "arm", "seed", "id", "setting", "init", "replay", "state", "cause", "iteration",
    "max_iterations", "attempts", "commit", "dirty", "device", "processor", "code", "init_sha256", "command",
    "torch", "seconds", "images",
    *BOX_METRICS, *MASK_METRICS,
]
# fmt: on
CURVE_COLUMNS = ["path", *LOG_COLUMNS]
COLUMNS = {
    "runs": RUN_COLUMNS,
    "thresholds": ["path", "iou", "AP"],
    "classes": ["path", "name", "AP", "AP90"],
    "histograms": ["path", "kind", "when", "counts"],
}


def _no_rows() -> dict[str, list[dict[str, Any]]]:
    return {name: [] for name in COLUMNS}


@dataclass
class Found:
    """What was read. rows: of each table. curves: (path, column -> values), a run each. timings: by path."""

    problems: list[str] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=_no_rows)
    curves: list[tuple[str, dict[str, NDArray[np.float64]]]] = field(default_factory=list)
    timings: dict[str, TimingResults] = field(default_factory=dict)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The rows as tables, by name, and the curves."""
        frames = {name: pd.DataFrame(self.rows[name], columns=columns) for name, columns in COLUMNS.items()}
        return {**frames, "curves": self._curve_table()}

    def _curve_table(self) -> pd.DataFrame:
        """The curves of all runs, a row a logged iteration. Arrays: dicts of a thousand runs fill the memory."""
        if not self.curves:
            return pd.DataFrame(columns=CURVE_COLUMNS)
        paths = np.repeat([path for path, _ in self.curves], [len(each["iteration"]) for _, each in self.curves])
        columns = {name: np.concatenate([each[name] for _, each in self.curves]) for name in LOG_COLUMNS}
        return pd.DataFrame({"path": pd.Series(paths, dtype=object), **columns}).astype({"iteration": int})

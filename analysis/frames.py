"""The records as tidy pandas DataFrames, one call each: `load_runs`, `load_curves`, `load_detections`.

The column `path`, the run's directory relative to the folder, joins them. Problems that the report would list are
warnings.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from analysis.reading.run_table import RunTable, collect
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.detections import read_detections
from dynamic_rcnn.run.files import DETECTIONS

_RUN = ["path", "dataset", "arm", "seed"]
_DETECTION = ["image_id", "category_id", "x", "y", "width", "height", "score"]


def load_runs(folder: Path | str) -> pd.DataFrame:
    """Load all runs.

    Args:
        folder: a folder of runs, or of records.

    Returns:
        One row per run directory, with the columns of `analysis.reading.run_table.RUN_COLUMNS`: identity, final state,
        software and hardware, metrics as fractions in [0, 1]. `grids` lists the keys of the grids that contain the run.

    Raises:
        UserError: `folder` contains neither a run nor a grid.
    """
    records = _collect(folder)
    grids: dict[str, list[str]] = {}
    for grid in records.grids:
        for cell in grid.cells:
            grids.setdefault(cell.path, []).append(grid.key)
    return records.runs.assign(grids=records.runs["path"].map(lambda path: grids.get(path, [])))


def load_curves(folder: Path | str) -> pd.DataFrame:
    """Load the training curves of all runs.

    Args:
        folder: a folder of runs, or of records.

    Returns:
        One row per logged iteration, with path, dataset, arm and seed of the run and the columns of train.jsonl
        (`analysis.reading.run_table.CURVE_COLUMNS`): losses, T, beta, proposal statistics; what was
        measured, such as `seconds` per iteration and `images_per_second`, NaN where a run did not measure it.

    Raises:
        UserError: `folder` contains neither a run nor a grid.
    """
    records = _collect(folder)
    return records.runs[_RUN].merge(records.curves, on="path")


def load_detections(folder: Path | str) -> pd.DataFrame:
    """Load the saved detections of all finished runs.

    Args:
        folder: a folder of runs, or of records. Runs without saved detections are left out.

    Returns:
        One row per detection, with path, dataset, arm and seed of the run; image_id and category_id as in the
        annotations; the box as x, y (upper left corner), width, height in pixels; score in [0, 1].

    Raises:
        UserError: `folder` contains neither a run nor a grid. A broken file of detections is a warning.
    """
    root, frames = Path(folder), []
    runs = _collect(folder).runs
    for path in runs.loc[runs["state"] == "done", "path"]:
        if not (root / path / DETECTIONS).exists():
            continue
        try:
            detections = read_detections(root / path / DETECTIONS)
        except UserError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        rows = [(row["image_id"], row["category_id"], *row["bbox"], row["score"]) for row in detections]
        frames.append(pd.DataFrame(rows, columns=_DETECTION).assign(path=path))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*_DETECTION, "path"])
    return frame.merge(runs[_RUN], on="path")[[*_RUN, *_DETECTION]]


def _collect(folder: Path | str) -> RunTable:
    records = collect(Path(folder))
    for line in records.problems:
        warnings.warn(line, stacklevel=3)
    return records

"""Records as tidy pandas DataFrames, one call each: `load_runs`, `load_curves`, `load_detections`.

`path` (the run's directory below the folder) joins them. Problems while reading are warnings, as the report lists them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from analysis.reading.records import Records, collect
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import read_detections
from dynamic_rcnn.run.directory import DETECTIONS

_RUN = ["path", "dataset", "arm", "seed"]
_DETECTION = ["image_id", "category_id", "x", "y", "width", "height", "score"]


def load_runs(folder: Path | str) -> pd.DataFrame:
    """A row a run directory: what it is, how it ended, on what, and its metrics (fractions; see found.RUN_COLUMNS).

    grids: the keys of the grids that ask for it. Raises UserError if there is no run and no grid in `folder`.
    """
    records = _collect(folder)
    asked: dict[str, list[str]] = {}
    for grid in records.grids:
        for cell in grid.cells:
            asked.setdefault(cell.path, []).append(grid.key)
    return records.runs.assign(grids=records.runs["path"].map(lambda path: asked.get(path, [])))


def load_curves(folder: Path | str) -> pd.DataFrame:
    """A row a logged iteration of each run, with the run's data set, arm and seed. Raises UserError as `load_runs`."""
    records = _collect(folder)
    return records.runs[_RUN].merge(records.curves, on="path")


def load_detections(folder: Path | str) -> pd.DataFrame:
    """A row a detection of each finished run that has its detections, with the run's data set, arm and seed.

    x, y, width, height in pixels of the image as in COCO's files; image_id, category_id as in the annotations.
    Raises UserError as `load_runs`; detections that cannot be read are a warning.
    """
    root, frames = Path(folder), []
    runs = _collect(folder).runs
    for path in runs.loc[runs["state"] == "done", "path"]:
        if not (root / path / DETECTIONS).exists():
            continue
        try:
            found = read_detections(root / path / DETECTIONS)
        except UserError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        rows = [(row["image_id"], row["category_id"], *row["bbox"], row["score"]) for row in found]
        frames.append(pd.DataFrame(rows, columns=_DETECTION).assign(path=path))
    found_all = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*_DETECTION, "path"])
    return found_all.merge(runs[_RUN], on="path")[[*_RUN, *_DETECTION]]


def _collect(folder: Path | str) -> Records:
    records = collect(Path(folder))
    for line in records.problems:
        warnings.warn(line, stacklevel=3)
    return records

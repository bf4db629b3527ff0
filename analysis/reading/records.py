"""Run directories -> tidy tables. What cannot be read becomes a line in `Records.problems`; the rest goes on.

One call, `collect(runs)`, gives the grids, and DataFrames of runs, curves, AP by IoU threshold, and classes.
Metrics are fractions in [0, 1], as recorded; NaN where undefined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from analysis.reading import consistency, image_statistics
from analysis.reading.image_statistics import ImageStatistics
from analysis.reading.manifest import Grid, find_manifests, read_grid
from analysis.reading.reader import MISSING, Reader
from analysis.reading.superseded import Aside
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.results import TimingResults


@dataclass
class Records:
    """Everything a runs folder says.

    runs: a row a run directory (found.RUN_COLUMNS). curves: a row a logged iteration (found.CURVE_COLUMNS).
    thresholds: path, iou, AP. classes: path, name, AP, AP90. histograms: path, kind, when, counts (see train_log).
    `path` joins them all. images: a grid's key -> what its detections say over images, where it was computed.
    timings: of the runs that time their arms, by path. aside: directories that no table has, without those in
    `runs`; None where their list cannot be read.
    """

    grids: list[Grid]
    runs: pd.DataFrame
    curves: pd.DataFrame
    thresholds: pd.DataFrame
    classes: pd.DataFrame
    histograms: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    images: dict[str, ImageStatistics] = field(default_factory=dict)
    timings: dict[str, TimingResults] = field(default_factory=dict)
    aside: list[Aside] | None = field(default_factory=list)

    def of(self, grid: Grid) -> pd.DataFrame:
        """A row for each run that `grid` asks for, in table order; one never started is 'missing'.

        setting: that of the run's spec; what the manifest says, if it is not there, and beside it where it differs.
        """
        order = {arm: position for position, arm in enumerate(grid.arms)}
        cells = sorted(grid.cells, key=lambda cell: (order[cell.arm], cell.seed))
        asked = pd.DataFrame([vars(cell) for cell in cells], columns=["arm", "seed", "path", "setting"], dtype=object)
        known = self.runs.drop(columns=["arm", "seed"]).rename(columns={"setting": "own_setting"})
        rows = asked.merge(known, on="path", how="left")
        own, asked_for = rows.pop("own_setting"), rows["setting"]
        differs = own.notna() & asked_for.notna() & (own != asked_for)
        both = asked_for.astype(str) + "/" + own.astype(str)
        rows["setting"] = own.where(own.notna(), asked_for).where(~differs, both)
        rows["state"] = rows["state"].fillna(MISSING)
        return rows

    def done(self, grid: Grid) -> pd.DataFrame:
        """The finished runs of `grid`, in table order."""
        rows = self.of(grid)
        return rows[rows["state"] == "done"]

    def unasked(self) -> list[str]:
        """The runs that no grid asks for and no run starts from."""
        named = {cell.path for grid in self.grids for cell in grid.cells}
        used = set(self.runs["init"].dropna())
        return self.runs.loc[~self.runs["path"].isin(named) & ~self.runs["id"].isin(used), "path"].tolist()

    def starts(self, grid: Grid) -> pd.DataFrame:
        """The runs that the runs of `grid` start from."""
        ids = set(self.of(grid)["init"].dropna())
        return self.runs[self.runs["id"].isin(ids) & (self.runs["dataset"] == grid.dataset)]


def collect(runs: Path) -> Records:
    """Read all below `runs`. Raises UserError if there is no such folder, or neither run nor grid in it."""
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder; runs= must name a folder of runs, as experiments/launch.py makes it")
    reader = Reader(runs)
    grids = [grid for path in find_manifests(runs) if (grid := reader.attempt(read_grid, path)) is not None]
    found = reader.run_directories()
    if not grids and not found and reader.found.problems:
        raise UserError(f"{runs}: nothing in this folder can be read: {reader.found.problems[0]}")
    if not grids and not found:
        raise UserError(f"{runs}: no run and no grid in this folder; make some with experiments/launch.py")
    reader.read_runs(found)
    grids = sorted(grids, key=lambda grid: (grid.dataset, grid.name, grid.setting))
    records = Records(grids, **reader.content())
    records.problems += [
        f"{path}: no grid in this folder asks for this run; it is in no table" for path in records.unasked()
    ]
    records.problems += consistency.wrong_replays(records.runs, records.curves)
    for grid in records.grids:
        found_images = reader.attempt(partial(image_statistics.read, grid), runs / image_statistics.place(grid))
        if found_images is not None:
            records.images[grid.key] = found_images
        records.problems += consistency.wrong_cells(records.runs, grid) + consistency.problems(grid, records.done(grid))
    return records

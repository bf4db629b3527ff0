"""Run directories -> tidy tables. What cannot be read becomes a line in `Records.problems`; the rest goes on.

One call, `collect(runs)`, gives the grids, and DataFrames of runs, curves, AP by IoU threshold, and classes.
Metrics are fractions in [0, 1], as recorded; NaN where undefined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from analysis import consistency, image_statistics
from analysis.grids import Grid, find_manifests, read_grid
from analysis.image_statistics import ImageStatistics
from analysis.run_files import (
    CURVES,
    IOU_THRESHOLDS,
    METRICS,
    SEGM_METRICS,
    histograms,
    read_curves,
    read_metrics,
    read_provenance,
    read_spec,
    read_state,
    read_status,
)
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import directory
from dynamic_rcnn.run.measurement import Measured, read_measurement
from dynamic_rcnn.run.spec import MEASURE, is_aside

# fmt: off
RUN_COLUMNS = [
    "path", "dataset", "arm", "seed", "id", "setting", "init", "replay", "state", "cause", "iteration",
    "max_iterations", "attempts", "commit", "dirty", "device", "code", "init_sha256", "command", "torch", "seconds",
    "images", *METRICS, *SEGM_METRICS,
]
# fmt: on
CURVE_COLUMNS = ["path", *CURVES]
MISSING, UNREADABLE = "missing", "unreadable"

_OWN_FILES = {
    *(directory.SPEC, directory.STATUS, directory.PROVENANCE, directory.TRAIN_LOG, directory.EVALUATIONS),
    *(directory.DETECTIONS, directory.METRICS, directory.LOGS, directory.CHECKPOINTS, directory.LOCK),
}
_Result = TypeVar("_Result")


@dataclass
class Records:
    """Everything a runs folder says.

    runs: a row a run directory (RUN_COLUMNS). curves: a row a logged iteration (CURVE_COLUMNS).
    thresholds: path, iou, AP. classes: path, name, AP, AP90. histograms: path, kind, when, counts (see run_files).
    `path` joins them all. images: a grid's key -> what its detections say over images, where it was computed.
    measurements: of the runs that time their arms, by path.
    """

    grids: list[Grid]
    runs: pd.DataFrame
    curves: pd.DataFrame
    thresholds: pd.DataFrame
    classes: pd.DataFrame
    histograms: pd.DataFrame
    problems: list[str] = field(default_factory=list)
    images: dict[str, ImageStatistics] = field(default_factory=dict)
    measurements: dict[str, Measured] = field(default_factory=dict)

    def of(self, grid: Grid) -> pd.DataFrame:
        """A row for each run that `grid` asks for, in table order; one never started is 'missing'.

        setting: as the manifest has it, in older ones as the run's spec comes to.
        """
        order = {arm: position for position, arm in enumerate(grid.arms)}
        cells = sorted(grid.cells, key=lambda cell: (order[cell.arm], cell.seed))
        asked = pd.DataFrame([vars(cell) for cell in cells], columns=["arm", "seed", "path", "setting"], dtype=object)
        known = self.runs.drop(columns=["arm", "seed"]).rename(columns={"setting": "own_setting"})
        rows = asked.merge(known, on="path", how="left")
        rows["setting"] = rows["setting"].where(rows["setting"].notna(), rows.pop("own_setting"))
        rows["state"] = rows["state"].fillna(MISSING)
        return rows

    def done(self, grid: Grid) -> pd.DataFrame:
        """The finished runs of `grid`, in table order."""
        rows = self.of(grid)
        return rows[rows["state"] == "done"]

    def starts(self, grid: Grid) -> pd.DataFrame:
        """The runs that the runs of `grid` start from."""
        ids = set(self.of(grid)["init"].dropna())
        return self.runs[self.runs["id"].isin(ids) & (self.runs["dataset"] == grid.dataset)]


def collect(runs: Path) -> Records:
    """Read all below `runs`. Raises UserError if there is no such folder, or neither run nor grid in it."""
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder; runs= must name a folder of runs, as experiments/launch.py makes it")
    reader = _Reader(runs)
    grids = [grid for path in find_manifests(runs) if (grid := reader.attempt(read_grid, path)) is not None]
    found = reader.run_directories()
    if not grids and not found:
        raise UserError(f"{runs}: no run and no grid in this folder; make some with experiments/launch.py")
    for path in found:
        reader.read_run(path)
    records = reader.records(sorted(grids, key=lambda grid: (grid.dataset, grid.name, grid.setting)))
    records.problems += _unnamed(records) + consistency.wrong_replays(records.runs, records.curves)
    for grid in records.grids:
        found_images = reader.attempt(partial(image_statistics.read, grid), runs)
        if found_images is not None:
            records.images[grid.key] = found_images
        records.problems += consistency.wrong_seeds(records.runs, grid) + consistency.problems(grid, records.done(grid))
    return records


class _Reader:
    """Gathers rows and problems while it walks a runs folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.measurements: dict[str, Measured] = {}
        names = ("runs", "curves", "thresholds", "classes", "histograms")
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}

    def records(self, grids: list[Grid]) -> Records:
        columns = {
            "runs": RUN_COLUMNS,
            "curves": CURVE_COLUMNS,
            "thresholds": ["path", "iou", "AP"],
            "classes": ["path", "name", "AP", "AP90"],
            "histograms": ["path", "kind", "when", "counts"],
        }
        frames = {name: pd.DataFrame(self.rows[name], columns=columns[name]) for name in columns}
        own = {"problems": self.problems, "measurements": self.measurements}
        return Records(grids, **frames, **own)  # type: ignore[arg-type]

    def attempt(self, read: Callable[[Path], _Result], path: Path) -> _Result | None:
        """`read(path)`; None and a line in `problems` if it raises UserError."""
        try:
            return read(path)
        except UserError as error:
            self.problems.append(str(error).replace(f"{self.root}/", ""))
        except (OSError, UnicodeDecodeError) as error:
            where = path.relative_to(self.root).as_posix()
            self.problems.append(f"{where}: cannot be read ({error.__class__.__name__})")
        return None

    def run_directories(self) -> list[Path]:
        """The run directories, sorted, without those moved aside; whatever else lies around is a problem."""
        found = []
        for folder in _children(self.root):
            for arm in _children(folder) if self._is_folder(folder) else []:
                if arm.name.endswith(image_statistics.GRID_FILES):
                    continue
                for run in _children(arm) if self._is_folder(arm) else []:
                    if self._is_folder(run) and not is_aside(run):
                        found.append(run)
        return found

    def _is_folder(self, path: Path) -> bool:
        if not path.is_dir():
            self.problems.append(f"{path.relative_to(self.root).as_posix()}: no part of a run; ignored")
        return path.is_dir()

    def read_run(self, path: Path) -> None:
        """Add what `path` says to the tables."""
        name = path.relative_to(self.root).as_posix()
        for child in _children(path):
            if child.name not in _OWN_FILES:
                self.problems.append(f"{name}/{child.name}: no part of a run; ignored")
        spec = self.attempt(read_spec, path / directory.SPEC)
        state = self.attempt(read_state, path) or directory.State(UNREADABLE)
        row: dict[str, Any] = {
            "path": name,
            "iteration": state.iteration,
            "max_iterations": state.max_iterations,
        }
        row |= {"state": MISSING if state.name == "absent" else state.name, "cause": state.cause}
        if spec is None:
            row |= {"state": UNREADABLE, "dataset": name.split("/")[0]}
            self.rows["runs"].append(row)
            return
        row |= spec
        for file, read in ((directory.STATUS, read_status), (directory.PROVENANCE, read_provenance)):
            if not (path / file).exists() and state.name != "done":
                continue
            value = self.attempt(read, path / file)
            row |= value or {}
            if value is None and state.name == "absent":
                row |= {"state": UNREADABLE, "cause": file}
        self._read_curves(path, row)
        if (path / directory.METRICS).exists():
            read_results = self._read_measurement if row["task"] == MEASURE else self._read_metrics
            read_results(path, row)
        self.rows["runs"].append(row)

    def _read_measurement(self, path: Path, row: dict[str, Any]) -> None:
        value = self.attempt(read_measurement, path)
        if value is None:
            row["state"], row["cause"] = UNREADABLE, "metrics.json"
        else:
            self.measurements[row["path"]] = value

    def _read_metrics(self, path: Path, row: dict[str, Any]) -> None:
        value = self.attempt(read_metrics, path)
        if value is None:
            row["state"], row["cause"] = UNREADABLE, "metrics.json"
            return
        row["images"] = value.get("images")
        row |= {metric: value["metrics"].get(metric) for metric in (*METRICS, *SEGM_METRICS)}
        by_iou = zip(IOU_THRESHOLDS, value["by_iou"], strict=True)
        self.rows["thresholds"] += [{"path": row["path"], "iou": iou, "AP": ap} for iou, ap in by_iou]
        for name, scores in value["per_class"].items():
            self.rows["classes"].append(
                {"path": row["path"], "name": name, "AP": scores.get("AP"), "AP90": scores.get("AP90")}
            )

    def _read_curves(self, path: Path, row: dict[str, Any]) -> None:
        rows = self.attempt(read_curves, path / directory.TRAIN_LOG) or []
        self.rows["curves"] += [{"path": row["path"], **{name: entry.get(name) for name in CURVES}} for entry in rows]
        self.rows["histograms"] += [{"path": row["path"], **entry} for entry in histograms(rows)]
        seconds = pd.Series([entry.get("seconds") for entry in rows], dtype="float64").dropna()
        row["seconds"] = float(seconds.median()) if len(seconds) else None


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _unnamed(records: Records) -> list[str]:
    """Runs that no grid asks for and no run starts from."""
    named = {cell.path for grid in records.grids for cell in grid.cells}
    used = set(records.runs["init"].dropna())
    rest = records.runs[~records.runs["path"].isin(named) & ~records.runs["id"].isin(used)]
    return [f"{path}: no grid in this folder asks for this run; it is in no table" for path in rest["path"]]

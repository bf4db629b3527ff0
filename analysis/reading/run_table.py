"""A folder of runs as tidy tables: `collect(folder)` returns a `RunTable`.

What cannot be read becomes one line in `RunTable.problems`; everything else is still read. Metrics are fractions in
[0, 1], as recorded, and NaN where undefined.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.reading import consistency, image_statistics
from analysis.reading.image_statistics import ImageStatistics
from analysis.reading.reader import Reader
from analysis.reading.run import ARITHMETIC, MISSING, Run, origin_row
from analysis.reading.superseded import SupersededRun
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.metrics.names import BOX_METRICS, IOU_THRESHOLDS, MASK_METRICS
from dynamic_rcnn.run.box_gradients import BoxGradients
from dynamic_rcnn.run.files import GRID_SUFFIX, read_content
from dynamic_rcnn.run.gpu_times import GPU_TIMES, GpuTimes
from dynamic_rcnn.run.manifest import Manifest, read_manifest
from dynamic_rcnn.run.provenance import Origin
from dynamic_rcnn.run.results import EvaluationResults, PretrainingResults, TimingResults
from dynamic_rcnn.run.spec import FINAL_VALUES, TRAIN
from dynamic_rcnn.run.train_log import LOG_COLUMNS

# fmt: off
RUN_COLUMNS = [
    "path", "dataset", "arm", "seed", "id", "setting", "init", "replay", "replayed_values", "state", "cause",
    "iteration", "max_iterations", "attempts", "commit", "dirty", "device", "processor", "code", "init_sha256",
    "command", "processes", "torch", *ARITHMETIC, "seconds", "split", "images", "accuracy",
    *BOX_METRICS, *MASK_METRICS,
]
# fmt: on
CURVE_COLUMNS = ["path", *LOG_COLUMNS]


@dataclass
class RunTable:
    """The content of a folder of runs. The column `path`, relative to the folder, joins the tables.

    Attributes:
        grids: the manifests.
        runs: one row per run directory (RUN_COLUMNS).
        curves: one row per logged iteration (CURVE_COLUMNS).
        thresholds: path, iou, AP. classes: path, name, AP, AP90.
        histograms: path, kind, when, counts (see `train_log.TrainLog`).
        problems: one line per file that cannot be read or contradicts another one.
        images: key of a grid -> statistics over its images, if they were computed.
        timings: path -> results of a run that times its arms.
        box_gradients: path -> which errors the box loss of a run learns from, if it was measured.
        gpu: what was timed on a GPU (gpu.json); None if nothing was.
        superseded: run directories that are in no table and not in `runs`; None if their list cannot be read.
    """

    grids: list[Manifest]
    runs: pd.DataFrame
    curves: pd.DataFrame
    thresholds: pd.DataFrame
    classes: pd.DataFrame
    histograms: pd.DataFrame
    timings: dict[str, TimingResults]
    superseded: list[SupersededRun] | None
    problems: list[str]
    images: dict[str, ImageStatistics] = field(default_factory=dict)
    box_gradients: dict[str, BoxGradients] = field(default_factory=dict)
    gpu: GpuTimes | None = None

    def print_problems(self) -> None:
        """Print one line per problem to stderr."""
        for line in self.problems:
            print(f"problem: {line}", file=sys.stderr)

    def choose_grids(self, option: str) -> list[Manifest]:
        """The grids whose names, or names with settings, the option grids= lists; all if it is empty."""
        names = [name for name in option.split(",") if name]
        by_grid = [(grid, {grid.name, f"{grid.name}-{grid.setting}"}) for grid in self.grids]
        valid = {name for _, own in by_grid for name in own}
        if unknown := [name for name in names if name not in valid]:
            raise unknown_name("grid", unknown, valid)
        return [grid for grid, own in by_grid if not names or own & set(names)]

    def runs_of(self, grid: Manifest) -> pd.DataFrame:
        """One row per run of `grid`, in table order; the state of one that was never started is MISSING.

        setting: as in the run's spec; as in the manifest if there is no spec; both if they differ.
        """
        order = {arm: position for position, arm in enumerate(grid.arms)}
        cells = sorted(grid.cells, key=lambda cell: (order[cell.arm], cell.seed))
        planned = pd.DataFrame(
            [(cell.arm, cell.seed, cell.path, cell.setting) for cell in cells],
            columns=["arm", "seed", "path", "setting"],
            dtype=object,
        )
        known = self.runs.drop(columns=["arm", "seed"]).rename(columns={"setting": "own_setting"})
        rows = planned.merge(known, on="path", how="left")
        own, expected = rows.pop("own_setting"), rows["setting"]
        differs = own.notna() & expected.notna() & (own != expected)
        both = expected.astype(str) + "/" + own.astype(str)
        rows["setting"] = own.where(own.notna(), expected).where(~differs, both)
        rows["state"] = rows["state"].fillna(MISSING)
        return rows

    def with_all_seeds(self, grid: Manifest) -> Manifest:
        """`grid` with the finished runs of its arms that other grids of the folder asked for."""
        arms: dict[str | None, set[str]] = {}  # by setting
        for cell in grid.cells:
            arms.setdefault(cell.setting, set()).add(cell.arm)
        cells = {(cell.arm, cell.seed): cell for cell in grid.cells}
        done = set(self.runs.loc[self.runs["state"] == "done", "path"])
        for cell in (cell for other in self.grids if other.dataset == grid.dataset for cell in other.cells):
            for arm in arms.get(cell.setting, ()) if cell.setting is not None and cell.path in done else ():
                cells.setdefault((arm, cell.seed), cell.model_copy(update={"arm": arm}))
        return grid.model_copy(update={"cells": list(cells.values())})

    def finished_runs(self, grid: Manifest) -> pd.DataFrame:
        """The finished runs of `grid`, in table order."""
        rows = self.runs_of(grid)
        return rows[rows["state"] == "done"]

    def runs_in_no_grid(self) -> list[str]:
        """Paths of the runs that are in no grid and that no run starts from."""
        planned = {cell.path for grid in self.grids for cell in grid.cells}
        starts = set(self.runs["init"].dropna())
        return self.runs.loc[~self.runs["path"].isin(planned) & ~self.runs["id"].isin(starts), "path"].tolist()

    def start_runs(self, grid: Manifest) -> pd.DataFrame:
        """One row per run from which runs of `grid` start."""
        ids = set(self.runs_of(grid)["init"].dropna())
        return self.runs[self.runs["id"].isin(ids) & (self.runs["dataset"] == grid.dataset)]


def read_folder(folder: Path, option: str = "runs") -> tuple[list[Manifest], list[Run], Reader]:
    """The manifests and runs of the folder that `option` names, and the reader with its problems.

    Raises UserError if there is no such folder, or if it contains neither a run nor a grid.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; {option}= must name a folder of runs, created by experiments/launch.py"
        )
    reader = Reader(folder)
    manifests = sorted(folder.glob(f"*/*{GRID_SUFFIX}"))
    grids = [grid for path in manifests if (grid := reader.attempt(read_manifest, path)) is not None]
    runs = reader.runs()
    if not grids and not runs and reader.problems:
        raise UserError(f"{folder}: nothing in this folder can be read: {reader.problems[0]}")
    if not grids and not runs:
        raise UserError(f"{folder}: no runs and no grids in this folder; create some with experiments/launch.py")
    return sorted(grids, key=lambda grid: (grid.dataset, grid.name, grid.setting)), runs, reader


def collect(folder: Path, option: str = "runs") -> RunTable:
    """Read the folder of runs that `option` names. Raises UserError as `read_folder`."""
    grids, runs, reader = read_folder(folder, option)
    table = _build_table(grids, runs, reader)
    if (folder / GPU_TIMES).exists():
        table.gpu = reader.attempt(partial(read_content, GpuTimes), folder / GPU_TIMES)
    table.problems += [f"{path}: in no grid of this folder, therefore in no table" for path in table.runs_in_no_grid()]
    table.problems += consistency.wrong_replays(table.runs, table.curves)
    for grid in table.grids:
        planned = table.with_all_seeds(grid)
        statistics = reader.attempt(partial(image_statistics.read, planned), folder / image_statistics.path_for(grid))
        if statistics is not None:
            table.images[grid.key] = statistics
        table.problems += consistency.wrong_cells(table.runs, grid)
        table.problems += consistency.problems(grid, table.finished_runs(grid))
    return table


def _build_table(grids: list[Manifest], runs: list[Run], reader: Reader) -> RunTable:
    scored = [(run.path, run.results) for run in runs if isinstance(run.results, EvaluationResults)]
    thresholds = [
        (path, iou, ap)
        for path, each in scored
        for iou, ap in zip(IOU_THRESHOLDS, each.by_iou or [None] * len(IOU_THRESHOLDS), strict=True)
    ]
    classes = [
        (path, name, scores.get("AP"), scores.get("AP90"))
        for path, each in scored
        for name, scores in (each.per_class or {}).items()
    ]
    histograms = [{"path": run.path, **entry} for run in runs for entry in run.log.histograms]
    return RunTable(
        grids=grids,
        runs=pd.DataFrame(map(_row, runs), columns=RUN_COLUMNS),
        curves=_curve_table(runs),
        thresholds=pd.DataFrame(thresholds, columns=["path", "iou", "AP"]),
        classes=pd.DataFrame(classes, columns=["path", "name", "AP", "AP90"]),
        histograms=pd.DataFrame(histograms, columns=["path", "kind", "when", "counts"]),
        timings={run.path: run.results for run in runs if isinstance(run.results, TimingResults)},
        box_gradients={run.path: run.box_gradients for run in runs if run.box_gradients is not None},
        superseded=reader.superseded(),
        problems=reader.problems,
    )


def _row(run: Run) -> dict[str, Any]:
    """One row of `RunTable.runs`."""
    row: dict[str, Any] = {"path": run.path, "dataset": run.path.split("/")[0], "state": run.state, "cause": run.cause}
    if run.spec is not None:
        spec = run.spec
        row |= {"dataset": str(spec.dataset["name"]), "arm": spec.arm, "seed": spec.seed}
        row |= {"id": spec.id, "setting": spec.setting}
        row |= {"init": (spec.init or {}).get("run") if spec.task == TRAIN else None}
        if spec.replay is not None:
            row |= {"replay": spec.replay["run"], "replayed_values": spec.replay.get("values", FINAL_VALUES)}
    if run.status is not None:
        row |= {"iteration": run.status.iteration, "max_iterations": run.status.max_iterations}
        row |= {"attempts": len(run.status.attempts)}
    row |= origin_row(run.provenance or Origin())
    seconds = run.log.columns["seconds"][np.isfinite(run.log.columns["seconds"])]
    row |= {"seconds": float(np.median(seconds)) if len(seconds) else None}
    if isinstance(run.results, EvaluationResults):
        # Earlier versions did not write it; the default would be a guess
        split = run.results.split if "split" in run.results.model_fields_set else None
        row |= {"split": split, "images": run.results.images, **run.results.metrics}
    if isinstance(run.results, PretrainingResults):
        row |= {"accuracy": run.results.accuracy}
    return row


def _curve_table(runs: list[Run]) -> pd.DataFrame:
    """The curves of all runs. Built from arrays: a list of dicts of 2,000 runs would fill the memory."""
    logs = [run.log.columns for run in runs]
    paths = np.repeat([run.path for run in runs], [len(log["iteration"]) for log in logs])
    columns = {name: np.concatenate([log[name] for log in logs]) for name in LOG_COLUMNS} if logs else {}
    frame = pd.DataFrame({"path": pd.Series(paths, dtype=object), **columns}, columns=CURVE_COLUMNS)
    return frame.astype({"iteration": int})

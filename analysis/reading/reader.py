"""Walks a runs folder: rows of what its run directories say, and a line a problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from analysis.reading import checksums, consistency, image_statistics, train_log
from analysis.reading import superseded as aside
from analysis.reading.raw_tables import Found
from analysis.reading.run_files import (
    REPORT_FILES,
    detections_fault,
    is_folder,
    read_metrics,
    read_provenance,
    read_spec,
    read_state,
    read_status,
)
from analysis.reading.superseded import Aside
from analysis.reading.train_log import read_train_log
from dynamic_rcnn.cli import is_text
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.names import BOX_METRICS, IOU_THRESHOLDS, MASK_METRICS
from dynamic_rcnn.run import files
from dynamic_rcnn.run.results import read_timing_results
from dynamic_rcnn.run.spec import BENCHMARK, TRAIN, is_aside
from dynamic_rcnn.run.state import State

MISSING, UNREADABLE = "missing", "unreadable"
CHECKSUM = "checksum"  # the cause of an unreadable run whose files are not as they were recorded

_OWN_FILES = {
    *(files.SPEC, files.STATUS, files.PROVENANCE, files.TRAIN_LOG, files.EVALUATIONS),
    *(files.DETECTIONS, files.METRICS, files.LOGS, files.CHECKPOINTS, files.LOCK),
}
_Result = TypeVar("_Result")


class Reader:
    """Gathers rows and problems while it walks a runs folder.

    moved: the directories that were moved aside.
    faults: file -> how it differs from the folder's SHA256SUMS; {} if there is none, or a damaged one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found = Found()
        self.moved: list[Aside] = []
        self.faults: dict[str, str] = {}
        faults = self.attempt(checksums.check, root / checksums.NAME) if (root / checksums.NAME).exists() else None
        self.are_checked = faults is not None
        if (root / aside.NAME).exists() and not (root / checksums.NAME).exists():
            self.found.problems.append(
                f"{checksums.NAME}: missing beside {aside.NAME}, so no file is checked; put it back"
            )
        self.faults = faults or {}
        self.found.problems += checksums.problems(self.faults)
        self._spoiled = checksums.spoiled_runs(self.faults)

    def content(self) -> dict[str, Any]:
        """What Records holds besides the grids, by its name there."""
        found = {"problems": self.found.problems, "timings": self.found.timings}
        return {**self.found.tables(), "aside": self._aside(), **found}

    def attempt(self, read: Callable[[Path], _Result], path: Path) -> _Result | None:
        """`read(path)`; None and a line in `problems` if it raises UserError; None for a file with a fault."""
        if path.relative_to(self.root).as_posix() in self.faults:
            return None
        try:
            return read(path)
        except UserError as error:
            self.found.problems.append(str(error).replace(f"{self.root}/", ""))
        except (OSError, UnicodeDecodeError) as error:
            where = path.relative_to(self.root).as_posix()
            self.found.problems.append(f"{where}: cannot be read ({error.__class__.__name__})")
        return None

    def run_directories(self) -> list[Path]:
        """The run directories, sorted, with those that SHA256SUMS lists and that are gone; others lie in `aside`.

        Whatever else lies around is a problem.
        """
        found = {self.root / path for path in self._spoiled if not is_aside(Path(path))}
        for folder in self._inside(self.root):
            if folder.name in (checksums.NAME, aside.NAME, *REPORT_FILES):
                continue
            for arm in self._inside(folder) if self._is_folder(folder) else []:
                if arm.name.endswith(image_statistics.GRID_FILES):
                    continue
                for run in self._inside(arm) if self._is_folder(arm) else []:
                    if self._is_folder(run) and is_aside(run):
                        self.moved.append(aside.moved(run.relative_to(self.root).as_posix()))
                    elif is_folder(run):
                        found.add(run)
        return sorted(found)

    def _aside(self) -> list[Aside] | None:
        """The directories in no table that were moved aside or are listed; None if the list cannot be read."""
        path = self.root / aside.NAME
        listed = self.attempt(aside.read, path) if path.exists() or aside.NAME in self.faults else []
        if listed is None:
            return None
        away = [each for each in listed if not (self.root / each.path).exists()]
        return sorted([*away, *self.moved], key=lambda each: each.path)

    def _inside(self, folder: Path) -> list[Path]:
        """What lies in `folder`, sorted, without hidden names."""
        found = self.attempt(_children, folder) or []
        for path in found:
            if not is_text(path.name):
                self.found.problems.append(f"{path.relative_to(self.root).as_posix()!a}: its name is no text; ignored")
        return [path for path in found if is_text(path.name)]

    def _is_folder(self, path: Path) -> bool:
        found = is_folder(path)
        if not found:
            self.found.problems.append(f"{path.relative_to(self.root).as_posix()}: no part of a run; ignored")
        return found

    def read_runs(self, paths: Sequence[Path]) -> None:
        """Add what each of `paths` says to the tables."""
        for path in paths:
            self._read_run(path)

    def _read_run(self, path: Path) -> None:
        """Add what `path` says to the tables."""
        name = path.relative_to(self.root).as_posix()
        if name in self._spoiled:
            known = self.attempt(read_spec, path / files.SPEC) or {"dataset": name.split("/")[0]}
            self.found.rows["runs"].append({"path": name, **known, "state": UNREADABLE, "cause": CHECKSUM})
            return
        for child in self._inside(path):
            if child.name not in _OWN_FILES:
                self.found.problems.append(f"{name}/{child.name}: no part of a run; ignored")
        spec = self.attempt(read_spec, path / files.SPEC)
        state = self.attempt(read_state, path) or State(UNREADABLE)
        row: dict[str, Any] = {
            "path": name,
            "iteration": state.iteration,
            "max_iterations": state.max_iterations,
        }
        row |= {"state": MISSING if state.name == "absent" else state.name, "cause": state.cause}
        if spec is None:
            row |= {"state": UNREADABLE, "dataset": name.split("/")[0]}
            self.found.rows["runs"].append(row)
            return
        row |= spec
        for file, read in ((files.STATUS, read_status), (files.PROVENANCE, read_provenance)):
            if not (path / file).exists() and state.name != "done":
                continue
            value = self.attempt(read, path / file)
            row |= value or {}
            if value is None and state.name == "absent":
                row |= {"state": UNREADABLE, "cause": file}
        self._read_curves(path, row)
        if (path / files.METRICS).exists():
            read_results = self._read_timing_results if row["task"] == BENCHMARK else self._read_metrics
            read_results(path, row)
        self._check_finished(path, row)
        self.found.rows["runs"].append(row)

    def _check_finished(self, path: Path, row: dict[str, Any]) -> None:
        """What was otherwise in earlier attempts; detections cut off, where no checksum says that they are whole."""
        earlier = row.pop("earlier", [])
        if row["state"] != "done":
            return
        self.found.problems += consistency.changed_attempts(row, earlier)
        file = path / files.DETECTIONS
        if not self.are_checked and file.exists() and (fault := detections_fault(file)):
            self.found.problems.append(f"{row['path']}/{files.DETECTIONS}: {fault}")

    def _read_timing_results(self, path: Path, row: dict[str, Any]) -> None:
        value = self.attempt(read_timing_results, path)
        if value is None:
            row["state"], row["cause"] = UNREADABLE, files.METRICS
        else:
            self.found.timings[row["path"]] = value

    def _read_metrics(self, path: Path, row: dict[str, Any]) -> None:
        value = self.attempt(read_metrics, path)
        if value is None:
            row["state"], row["cause"] = UNREADABLE, files.METRICS
            return
        assert value.by_iou is not None and value.per_class is not None
        row["images"] = value.images
        row |= {metric: value.metrics.get(metric) for metric in (*BOX_METRICS, *MASK_METRICS)}
        by_iou = zip(IOU_THRESHOLDS, value.by_iou, strict=True)
        self.found.rows["thresholds"] += [{"path": row["path"], "iou": iou, "AP": ap} for iou, ap in by_iou]
        for name, scores in value.per_class.items():
            self.found.rows["classes"].append(
                {"path": row["path"], "name": name, "AP": scores.get("AP"), "AP90": scores.get("AP90")}
            )

    def _read_curves(self, path: Path, row: dict[str, Any]) -> None:
        found = self.attempt(read_train_log, path / files.TRAIN_LOG)
        if found is None:
            found = train_log.EMPTY
        elif row["state"] == "done" and row["task"] == TRAIN and (fault := found.fault(row["max_iterations"])):
            self.found.problems.append(f"{row['path']}/{files.TRAIN_LOG}: {fault}")
        self.found.curves.append((row["path"], found.columns))
        self.found.rows["histograms"] += [{"path": row["path"], **entry} for entry in found.histograms]
        seconds = found.columns["seconds"][np.isfinite(found.columns["seconds"])]
        row["seconds"] = float(np.median(seconds)) if len(seconds) else None


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))

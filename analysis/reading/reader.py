"""Reads a folder of runs, one `Run` per directory. What cannot be read becomes one line in `problems`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from analysis.reading import checksums, superseded
from analysis.reading.consistency import changed_attempts
from analysis.reading.image_statistics import GRID_FILES
from analysis.reading.run import CHECKSUM, MISSING, OWN_FILES, UNREADABLE, Run, detections_fault, read_spec
from analysis.reading.superseded import SupersededRun
from analysis.reading.train_log import EMPTY, TrainLog, read_train_log
from dynamic_rcnn.cli import is_text
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import files
from dynamic_rcnn.run.box_gradients import BoxGradients
from dynamic_rcnn.run.files import read_content
from dynamic_rcnn.run.gpu_times import GPU_TIMES
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import TRAIN, is_moved_aside
from dynamic_rcnn.run.state import CORRUPT, State, read_state
from dynamic_rcnn.run.status import Status

REPORT = "REPORT.md"
RECORDS = (checksums.NAME, superseded.NAME, GPU_TIMES)  # beside the runs
REPORT_FILES = (REPORT, "report.html", "REPORT_files")  # written beside the runs by analysis/report.py
EXPORTS = ("tensorboard", "mlflow", "wandb")  # folders written beside the runs by analysis/export.py
_Result = TypeVar("_Result")


class Reader:
    """Reads the folder `root` and collects `problems`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self._faults: dict[str, str] = {}  # file -> how it contradicts SHA256SUMS
        self._moved: list[SupersededRun] = []
        sums = root / checksums.NAME
        faults = self.attempt(checksums.check, sums) if sums.exists() else None
        self._are_checked = faults is not None
        if (root / superseded.NAME).exists() and not sums.exists():
            missing = f"{checksums.NAME}: missing, although {superseded.NAME} exists"
            self.problems.append(f"{missing}; no file can be checked until it is restored")
        self._faults = faults or {}
        way_out = "restore the recorded file, or write the records again"
        self.problems += [f"{file}: {fault}; {way_out}" for file, fault in self._faults.items()]
        self._spoiled = checksums.spoiled_runs(self._faults)

    def attempt(self, read: Callable[[Path], _Result], path: Path) -> _Result | None:
        """Return `read(path)`; None if it fails, which adds a problem, or if SHA256SUMS contradicts the file."""
        name = self._name(path)
        if name in self._faults:
            return None
        try:
            return read(path)
        except UserError as error:
            self._add_problem(str(error))
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{name}: cannot be read ({error.__class__.__name__})")
        return None

    def runs(self) -> list[Run]:
        """Read all run directories, and those that SHA256SUMS lists and that are missing, sorted by path."""
        found = {self.root / path for path in self._spoiled if not is_moved_aside(Path(path))}
        for run_dir in self._run_directories():
            if is_moved_aside(run_dir):
                # seed0-<id>.stale1 is "stale"
                reason = run_dir.name.rsplit(".", 1)[-1].rstrip("0123456789") or "replaced"
                self._moved.append(SupersededRun(path=self._name(run_dir), reason=reason))
            else:
                found.add(run_dir)
        return [self._read_run(path) for path in sorted(found)]

    def superseded(self) -> list[SupersededRun] | None:
        """The directories that no table contains, after `runs` was called; None if their list cannot be read."""
        path = self.root / superseded.NAME
        listed = self.attempt(superseded.read, path) if path.exists() or superseded.NAME in self._faults else []
        if listed is None:
            return None
        missing = [run for run in listed if not (self.root / run.path).exists()]
        return sorted([*missing, *self._moved], key=lambda run: run.path)

    def _run_directories(self) -> Iterator[Path]:
        """The folders <dataset>/<arm>/<run>. Anything unknown is a problem."""
        for dataset in self._children(self.root):
            if dataset.name in (*RECORDS, *REPORT_FILES, *EXPORTS) or not self._is_folder(dataset):
                continue
            for arm in self._children(dataset):
                if not arm.name.endswith(GRID_FILES) and self._is_folder(arm):
                    yield from filter(self._is_folder, self._children(arm))

    def _children(self, folder: Path) -> list[Path]:
        """The content of a folder, sorted, without hidden files."""
        found = self.attempt(lambda path: sorted(path.iterdir()), folder) or []
        for path in (path for path in found if not is_text(path.name)):
            self.problems.append(f"{self._name(path)!a}: the file name is not valid UTF-8; ignored")
        return [path for path in found if is_text(path.name) and not path.name.startswith(".")]

    def _is_folder(self, path: Path) -> bool:
        is_folder = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises PermissionError
        if not is_folder:
            self.problems.append(f"{self._name(path)}: not part of a run; ignored")
        return is_folder

    def _read_run(self, run_dir: Path) -> Run:
        run = Run(self._name(run_dir), UNREADABLE, spec=self.attempt(read_spec, run_dir / files.SPEC))
        if run.path in self._spoiled:
            run.cause = CHECKSUM
            return run
        for child in self._children(run_dir):
            if child.name not in OWN_FILES:
                self.problems.append(f"{run.path}/{child.name}: not part of a run; ignored")
        state = self.attempt(read_state, run_dir) or State(UNREADABLE)
        run.cause, run.status = state.cause, state.status
        if run.spec is None:
            return run
        run.state = MISSING if state.name == "absent" else state.name
        self._read_results(run_dir, run, state)
        provenance = run_dir / files.PROVENANCE
        if provenance.exists() or run.state == "done":
            run.provenance = self.attempt(partial(read_content, Provenance), provenance)
            if run.provenance is None and run.state == MISSING:
                run.state, run.cause = UNREADABLE, files.PROVENANCE
        log = self.attempt(read_train_log, run_dir / files.TRAIN_LOG)
        run.log = log or EMPTY
        if (path := run_dir / files.BOX_GRADIENTS).exists():
            run.box_gradients = self.attempt(partial(read_content, BoxGradients), path)
        if run.state == "done":
            self._check_finished(run_dir, run, log)
        return run

    def _read_results(self, run_dir: Path, run: Run, state: State) -> None:
        run.results, path = state.results, run_dir / files.METRICS
        fault = state.message if state.cause == CORRUPT else None
        if isinstance(run.results, EvaluationResults) and None in (run.results.by_iou, run.results.per_class):
            fault = f"{path}: by_iou and per_class must be given"
        if fault is not None:
            self._add_problem(fault)
            run.state, run.cause = UNREADABLE, files.METRICS if path.exists() else None
        elif run.status is None and (state.name == "done" or (run_dir / files.STATUS).exists()):
            self.attempt(partial(read_content, Status), run_dir / files.STATUS)

    def _check_finished(self, run_dir: Path, run: Run, log: TrainLog | None) -> None:
        is_trained = run.spec is not None and run.spec.task == TRAIN
        if run.status and run.status.state != "done":
            way_out = "launch the grid again to correct it"
            self.problems.append(
                f"{run.path}/{files.STATUS}: state={run.status.state}, though the run is done; {way_out}"
            )
        if is_trained and log is not None and run.status and (fault := log.fault(run.status.max_iterations)):
            self.problems.append(f"{run.path}/{files.TRAIN_LOG}: {fault}")
        if run.provenance is not None:
            self.problems += changed_attempts(run.path, run.provenance)
        # records may lack large detections; those that they have are in SHA256SUMS
        is_evaluated = isinstance(run.results, EvaluationResults)
        if is_evaluated and not self._are_checked and (fault := detections_fault(run_dir / files.DETECTIONS)):
            self.problems.append(f"{run.path}/{files.DETECTIONS}: {fault}")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _add_problem(self, text: object) -> None:
        self.problems.append(" ".join(str(text).replace(f"{self.root}/", "").split()))

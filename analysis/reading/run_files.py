"""Reading the files of one run directory, and holding them to their format. Each reader raises UserError."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import files
from dynamic_rcnn.run import state as run_state
from dynamic_rcnn.run.provenance import Origin, Provenance
from dynamic_rcnn.run.results import EvaluationResults, read_results
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Status

RECORD_FILES = (  # of a run, that the report reads
    *(files.SPEC, files.STATUS, files.PROVENANCE, files.TRAIN_LOG, files.METRICS),
    files.DETECTIONS,
)
REPORT = "REPORT.md"
REPORT_FILES = (REPORT, "report.html", "REPORT_files")  # what analysis/report.py writes beside the runs


def read_spec(path: Path) -> dict[str, Any]:
    """id, arm, seed, setting, task, dataset (its name) and init (the id of the run that it starts from, or None).

    Raises UserError where the recorded id is not that of the content, or the directory is not that of the run.
    """
    spec, recorded = RunSpec.read(path.parent), files.read_json(path).get("id")
    try:
        own = spec.id
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if recorded != own:
        raise UserError(
            f"{path}: field 'id' is {recorded!r}, the content gives {own!r}: "
            "it was changed after the run; put the file back, or launch a run of this content"
        )
    place = spec.directory(Path())
    if path.parent.parts[-3:] != place.parts:
        raise UserError(f"{path}: the spec of {place.as_posix()}, and lies elsewhere: move its directory there")
    return {
        **{"id": own, "arm": spec.arm, "seed": spec.seed, "setting": spec.setting, "task": spec.task},
        "dataset": str(spec.dataset.get("name")),
        "init": spec.init.get("run") if spec.init else None,
        "replay": spec.replay.get("run") if spec.replay else None,
    }


def read_state(run: Path) -> run_state.State:
    """Read the state of a run. Raises UserError for a corrupt status; specs and metrics have readers of their own."""
    state = run_state.read_state(run)
    others = (run / files.METRICS).exists() or not (run / files.SPEC).exists()
    if state.cause == run_state.CORRUPT and not others:
        raise UserError(str(state.message))
    return state


def read_status(path: Path) -> dict[str, Any]:
    """attempts: how often the run was started."""
    return {"attempts": len(files.read_content(Status, path).attempts)}


def read_provenance(path: Path) -> dict[str, Any]:
    """commit, dirty, device, processor, code, init_sha256, command, and the version of torch; `earlier` ones."""
    value = files.read_content(Provenance, path)
    return {**_made_by(value), "earlier": [_made_by(each) for each in value.earlier]}


def _made_by(origin: Origin) -> dict[str, Any]:
    names = ("commit", "dirty", "device", "processor", "code", "init_sha256", "command")
    return {**{name: getattr(origin, name) for name in names}, "torch": (origin.versions or {}).get("torch")}


def read_metrics(run: Path) -> EvaluationResults:
    """Read metrics.json of a run that trained or evaluated, with AP by IoU threshold and by class."""
    value = read_results(run)
    if not isinstance(value, EvaluationResults) or value.by_iou is None or value.per_class is None:
        raise UserError(f"{run / files.METRICS}: by_iou and per_class must be given")
    return value


def is_file(path: Path) -> bool:
    """Whether there is a file, also behind a link; False where that cannot be looked at, where Path.is_file raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """As `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112


def detections_fault(path: Path) -> str | None:
    """What is wrong with a file that cannot be decompressed to its end; None for a whole one.

    It takes 0.1 s for the 8 MB of a run on COCO; parsing them takes 15 times as long.
    """
    if path.is_fifo():
        return "a pipe, not a file; move it away"
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        return f"broken or cut off ({error.__class__.__name__}); move the run's directory away and launch the run again"
    return None

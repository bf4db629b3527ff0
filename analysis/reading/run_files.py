"""Reading the files of one run directory, and holding them to their format. Each reader raises UserError."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import directory
from dynamic_rcnn.run.spec import RunSpec

RECORD_FILES = (  # of a run, that the report reads
    *(directory.SPEC, directory.STATUS, directory.PROVENANCE, directory.TRAIN_LOG, directory.METRICS),
    directory.DETECTIONS,
)
REPORT = "REPORT.md"
REPORT_FILES = (REPORT, "report.html", "REPORT_files")  # what analysis/report.py writes beside the runs


def read_spec(path: Path) -> dict[str, Any]:
    """id, arm, seed, setting, task, dataset (its name) and init (the id of the run that it starts from, or None).

    Raises UserError where the recorded id is not that of the content, or the directory is not that of the run.
    """
    spec, recorded = RunSpec.read(path.parent), directory.read_json(path).get("id")
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


def read_state(run: Path) -> directory.State:
    """The state of the run. UserError for an unreadable status; specs and metrics have readers of their own."""
    state = directory.read_state(run)
    others = (run / directory.METRICS).exists() or not (run / directory.SPEC).exists()
    if state.cause == directory.CORRUPT and not others:
        raise UserError(str(state.message))
    return state


def read_status(path: Path) -> dict[str, Any]:
    """attempts: how often the run was started."""
    attempts = directory.read_json(path).get("attempts")
    return {"attempts": len(attempts) if isinstance(attempts, list) else None}


def read_provenance(path: Path) -> dict[str, Any]:
    """commit, dirty, device, processor, code, init_sha256, command, and the version of torch; `earlier` ones."""
    value = directory.read_json(path)
    earlier = value.get("earlier")
    rows = earlier if isinstance(earlier, list) else []
    return {**_made_by(path, value), "earlier": [_made_by(path, row) for row in rows if isinstance(row, dict)]}


def _made_by(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    versions = value.get("versions")
    texts = {name: value.get(name) for name in ("commit", "device", "processor", "code", "init_sha256", "command")}
    texts["torch"] = versions.get("torch") if isinstance(versions, dict) else None
    for name, text in texts.items():
        if not isinstance(text, str | None):
            raise UserError(f"{path}: field '{name}' is {text!r}; it must be text")
    if not isinstance(value.get("dirty"), bool | None):
        raise UserError(f"{path}: field 'dirty' is {value['dirty']!r}; it must be true or false")
    return {**texts, "dirty": value.get("dirty")}


def read_metrics(run: Path) -> dict[str, Any]:
    """The content of metrics.json, with every value checked to be a fraction or None."""
    value = directory.read_metrics(run)
    path = run / directory.METRICS
    for name, score in value["metrics"].items():
        if not _is_fraction(score):
            raise UserError(f"{path}: metric '{name}' is {score!r}; it must be a fraction in [0, 1] or null")
    by_iou, classes = value.get("by_iou"), value.get("per_class")
    if not isinstance(by_iou, list) or len(by_iou) != 10 or not all(map(_is_fraction, by_iou)):
        raise UserError(f"{path}: field 'by_iou' must be ten fractions, for IoU 0.50 to 0.95")
    rows = list(classes.values()) if isinstance(classes, dict) else [None]
    if not all(isinstance(scores, dict) and all(map(_is_fraction, scores.values())) for scores in rows):
        raise UserError(f"{path}: field 'per_class' must map class names to metrics, each a fraction in [0, 1] or null")
    if not isinstance(value.get("images"), int | None):
        raise UserError(f"{path}: field 'images' is {value['images']!r}; it must be an integer")
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


def _is_fraction(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value <= 1)

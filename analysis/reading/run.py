"""One run directory as `Run`: the contents of its files, checked against the schemas of `dynamic_rcnn.run`."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.reading.train_log import EMPTY, TrainLog
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import files
from dynamic_rcnn.run.box_gradients import BoxGradients
from dynamic_rcnn.run.provenance import Origin, Provenance
from dynamic_rcnn.run.results import Results
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Status

MISSING, UNREADABLE = "missing", "unreadable"  # states besides those of dynamic_rcnn.run.state
CHECKSUM = "checksum"  # the cause of an unreadable run whose files differ from SHA256SUMS
RECORD_FILES = (
    *(
        files.SPEC,
        files.STATUS,
        files.PROVENANCE,
        files.TRAIN_LOG,
        files.METRICS,
        files.DETECTIONS,
        files.BOX_GRADIENTS,
    ),
)
OWN_FILES = {*RECORD_FILES, files.EVALUATIONS, files.LOGS, files.CHECKPOINTS, files.LOCK}
_AGAIN = "restore it, or move the run's directory away and launch the run again"
ARITHMETIC = {  # fields of provenance.json's arithmetic, and their names in texts
    "precision": "precision",
    "deterministic": "deterministic mode",
    "tf32": "TF32",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "driver": "GPU driver",
}


@dataclass
class Run:
    """One run directory.

    Attributes:
        path: relative to the folder of runs: <dataset>/<arm>/seed<k>-<id>.
        state: done, failed, running, MISSING (never started) or UNREADABLE.
        cause: of a failure; for UNREADABLE, the file.
        spec, status, provenance, results, box_gradients: contents of the files; None if a file is missing or not valid.
    """

    path: str
    state: str
    cause: str | None = None
    spec: RunSpec | None = None
    status: Status | None = None
    provenance: Provenance | None = None
    results: Results | None = None
    log: TrainLog = EMPTY
    box_gradients: BoxGradients | None = None


def origin_row(origin: Origin) -> dict[str, Any]:
    """What made a run, by the names of the table of runs."""
    names = ("commit", "dirty", "device", "processor", "code", "init_sha256", "command", "processes")
    arithmetic = origin.arithmetic.model_dump() if origin.arithmetic else {}
    return {
        **{name: getattr(origin, name) for name in names},
        "torch": (origin.versions or {}).get("torch"),
        **{name: arithmetic.get(name) for name in ARITHMETIC},
    }


def read_spec(path: Path) -> RunSpec:
    """Read spec.json. Raises UserError if its id is not that of its content, or if the directory is another run's."""
    spec, recorded = RunSpec.read(path.parent), files.read_json(path).get("id")
    try:
        own = spec.id
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if recorded != own:
        raise UserError(
            f"{path}: id={recorded}: must be {own}, the id of the content, which was changed after the run; "
            "put the file back, or launch a run with this content"
        )
    expected = spec.directory(Path())
    if path.parent.parts[-3:] != expected.parts:
        raise UserError(f"{path}: the spec of {expected.as_posix()}; move the directory there")
    return spec


def detections_fault(path: Path) -> str | None:
    """Why the file of a finished run is missing or cannot be decompressed to its end, or None.

    Takes 0.1 s for the 8 MB of a run on COCO; parsing the detections would take 15 times as long.
    """
    if path.is_fifo():
        return "a pipe, not a file; move it away"
    try:
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
    except FileNotFoundError:
        return f"missing although {files.METRICS} exists; {_AGAIN}"
    except (OSError, EOFError, zlib.error) as error:
        return f"broken or cut off ({error.__class__.__name__}); {_AGAIN}"
    return None

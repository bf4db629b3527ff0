"""Reuses a complete training after its validation annotations were corrected: only the evaluation is repeated.

The validation annotations are part of a run's identity, so a correction makes a new run. If a run directory beside it
holds the same training, complete and made by the same code, the new directory starts as a copy of it, without its
results, and with a file `trained.json` that names the run. The trainer then evaluates the final weights.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import copy_run
from dynamic_rcnn.run.files import (
    DETECTIONS,
    EVALUATIONS,
    METRICS,
    PROVENANCE,
    STATUS,
    TRAINED,
    WEIGHTS,
    FileContent,
    read_content,
    write_content,
)
from dynamic_rcnn.run.fingerprint import code_fingerprint
from dynamic_rcnn.run.lock import is_locked
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.spec import TRAIN, RunSpec
from dynamic_rcnn.run.status import Status


class Trained(FileContent):
    """The content of trained.json. run: id of the run that trained the weights. dataset_fingerprint: of its data."""

    run: str
    dataset_fingerprint: str


def find_training(spec: RunSpec, others: Iterable[Path], reused: Mapping[str, str]) -> Path | None:
    """The directory among `others` with the complete training of `spec`, whose own directory does not exist yet.

    reused: id of a run that reuses a training -> id of the run that trained. Other runs may start from either.
    """
    if spec.task != TRAIN or spec.dataset.get("train_fingerprint") is None:
        return None
    return next((other for other in others if _has_training(other, spec, reused)), None)


def reuse(spec: RunSpec, run_dir: Path, source: Path) -> None:
    """Make `run_dir` a copy of `source` without its results; files that never change are linked if possible."""
    old = RunSpec.read(source)
    temporary = run_dir.with_name(f".{run_dir.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    copy_run(source, temporary)
    for name in (METRICS, DETECTIONS, EVALUATIONS):
        (temporary / name).unlink(missing_ok=True)
    for checkpoint in temporary.glob("checkpoints/iter_*.pth"):  # they contain the other run's id
        checkpoint.unlink()
    write_content(temporary / TRAINED, Trained(run=old.id, dataset_fingerprint=old.dataset["fingerprint"]))
    spec.write(temporary)
    temporary.rename(run_dir)


def read_trained(run_dir: Path) -> Trained | None:
    """Read trained.json; None if the run trained its own weights."""
    return read_content(Trained, run_dir / TRAINED) if (run_dir / TRAINED).exists() else None


def _has_training(other: Path, spec: RunSpec, reused: Mapping[str, str]) -> bool:
    try:
        found, status = RunSpec.read(other), read_content(Status, other / STATUS)
        code = read_content(Provenance, other / PROVENANCE).code
    except UserError:
        return False
    complete = 0 < status.max_iterations == status.iteration and (other / WEIGHTS).exists()
    return complete and code == code_fingerprint() and _is_same_training(found, spec, reused) and not is_locked(other)


def _is_same_training(old: RunSpec, new: RunSpec, reused: Mapping[str, str]) -> bool:
    """Whether two runs differ only in their validation annotations."""
    if old.dataset.get("train_fingerprint") != new.dataset["train_fingerprint"] or len(old.needs) != len(new.needs):
        return False
    pairs = zip(old.needs, new.needs, strict=True)
    if any(before not in (after, reused.get(after)) for before, after in pairs):
        return False
    dataset = {**old.dataset, "fingerprint": new.dataset["fingerprint"]}
    return replace(old, dataset=dataset, init=new.init, replay=new.replay).id == new.id != old.id

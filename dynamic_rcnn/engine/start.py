"""How a run starts: device, data, provenance, and what it takes from the run that it continues or replays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dynamic_rcnn.data import dataset
from dynamic_rcnn.data.stage import stage
from dynamic_rcnn.engine import checkpoint, precision
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.files import (
    CHECKPOINTS,
    METRICS,
    TRAIN_LOG,
    WEIGHTS,
    FileContent,
    read_json,
    read_jsonl,
    remove_temporary,
    write_content,
)
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.spec import FINAL_VALUES, REVERSED, SHUFFLED, TRAIN, RunSpec
from dynamic_rcnn.run.status import StatusFile

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector

_AGAIN = "if that run is done, move its directory away and launch again; this repeats it"


class BaseRun:
    """What runs of all kinds start with, their device and their data, and how they end.

    The working directory is the run directory, and every path is relative to it (see `run.claim`). Only rank 0 writes.
    """

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        self.spec = spec
        self.stop = stop
        self.device = select_device()
        precision.configure(spec.config["train"], self.device)
        self.iteration = 0
        self.record = StatusFile(Path(), 0)
        stop.check()
        found = dataset.prepare(spec.dataset) if distributed.is_main() else None  # draws before the others look
        distributed.any_of(False)
        found = found or dataset.prepare(spec.dataset)
        self.root, self.fingerprint = stage(found, spec.dataset, self._tick) if spec.task == TRAIN else found
        self._tick()

    def _tick(self) -> None:
        """Stop after a signal, and report progress."""
        self.stop.check()
        beat()

    def start_attempt(self, notes: Iterable[str | None]) -> None:
        """Open an attempt in the run's status, with notes."""
        if distributed.is_main():
            remove_temporary(Path())
            self.record.start(self.iteration)
            for note in filter(None, notes):
                self.record.note(note)

    def write_provenance(self, init_sha256: str | None = None) -> None:
        """Record what is needed to repeat this attempt. init_sha256: of the initial weights."""
        if distributed.is_main():
            origin = provenance.collect(
                device=torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
                threads=torch.get_num_threads(),
                processes=distributed.world_size(),
                arithmetic=precision.describe(self.spec.config["train"], self.device),
                dataset_fingerprint=self.fingerprint,
                init_sha256=init_sha256,
            )
            provenance.write(Path(), origin)

    def write_results(self, results: FileContent | None) -> None:
        """Write metrics.json, which makes the run done. results: None on all ranks but 0."""
        if results is not None:
            self.record.progress(self.iteration)
            write_content(Path(METRICS), results)
            checkpoint.remove_old(Path(CHECKPOINTS), keep=0)
            self.record.end("done")


def select_device() -> torch.device:
    """This process's GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_evaluated_weights(model: BaseDetector, spec: RunSpec, run_dir: Path | None = None) -> None:
    """Load the weights that an evaluation was planned with: those of a file, or the final ones of another run.

    run_dir: of `spec`; the working directory by default. Raises UserError as `checkpoint.load_weights`.
    """
    assert spec.init is not None
    if "file" in spec.init:
        checkpoint.load_weights(model, Path(spec.init["file"]), spec.init["sha256"])
    else:
        load_start_weights(model, spec, run_dir)


def load_start_weights(model: BaseDetector, spec: RunSpec, run_dir: Path | None = None) -> None:
    """Load the final weights of the run in `spec.init`. Raises UserError if they are missing or damaged."""
    path = find_start_weights(spec, run_dir)
    assert spec.init is not None
    try:
        checkpoint.load_weights(model, path, part=spec.init.get("part", ""))
    except UserError as error:
        raise UserError(f"{error}; {_AGAIN}") from None


def find_start_weights(spec: RunSpec, run_dir: Path | None = None) -> Path:
    """The final weights of the run in `spec.init`, in a directory beside this run's."""
    assert spec.init is not None
    run = spec.init["run"]
    return _find(run, WEIGHTS, f"the weights of run {run}, which this one needs, are missing; {_AGAIN}", run_dir)


def read_replayed(spec: RunSpec) -> list[tuple[float, float]] | None:
    """The (T, beta) of each window that this run replays, the last one to its end; None if it replays none.

    They are those of the first group of the replayed run.

    Rank 0 reads and broadcasts, because shared file systems may show files to other machines late. Raises UserError on
    all processes if that run is not done or its train.jsonl lacks the last iteration.
    """
    if spec.replay is None:
        return None
    found: list[tuple[float, float]] = []
    fault = None
    if distributed.is_main():
        try:
            found = _in_order(_windows(spec), spec)
        except UserError as error:
            fault = str(error)
    found, fault = distributed.broadcast((found, fault))
    if fault is not None:
        raise UserError(fault)
    return found


def _windows(spec: RunSpec) -> list[tuple[float, float]]:
    """The (T, beta) of each window of the run that `spec` replays, or only those of its last iteration."""
    assert spec.replay is not None
    run = spec.replay["run"]
    metrics = _find(run, METRICS, f"run {run}, whose T and beta this one replays, is not done; launch again when it is")
    log = metrics.with_name(TRAIN_LOG)
    rows, last = read_jsonl(log), read_json(metrics).get("iteration")
    values = {row["iteration"]: (row.get("T"), row.get("beta")) for row in rows}
    if spec.replay.get("values", FINAL_VALUES) == FINAL_VALUES:
        found = [values.get(last, (None, None))]
    else:
        length = spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]["update_iter_interval"]
        of_window = {iteration // length: pair for iteration, pair in values.items()}  # T and beta after an iteration
        found = [of_window.get(number, (None, None)) for number in range(last // length + 1)]
    known = [(threshold, beta) for threshold, beta in found if threshold is not None and beta is not None]
    if len(known) < len(found):
        what = f"T and beta of a window, or of iteration {last}, with which run {run} ended"
        raise UserError(f"{log}: lacks {what}; {_AGAIN}")
    return [(float(threshold), float(beta)) for threshold, beta in known]


def _in_order(windows: list[tuple[float, float]], spec: RunSpec) -> list[tuple[float, float]]:
    """`windows` in the order in which the run replays them."""
    assert spec.replay is not None
    order = spec.replay.get("values", FINAL_VALUES)
    if order == SHUFFLED:
        return [windows[at] for at in np.random.RandomState(spec.seed).permutation(len(windows))]
    return windows[::-1] if order == REVERSED else windows


def _find(run: str, name: str, fault: str, run_dir: Path | None = None) -> Path:
    """A file of another run of the same data set. run_dir, or the working directory, is <dataset>/<arm>/<run>."""
    found = sorted((run_dir or Path.cwd()).absolute().parent.parent.glob(f"*/seed*-{run}/{name}"))
    if not found:
        raise UserError(fault)
    return found[0]

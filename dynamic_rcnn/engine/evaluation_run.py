"""Evaluating a model that was trained elsewhere: a run without training, of weights from a file (`RunSpec.init`).

It writes what a trained run ends with: detections and metrics. There is nothing to resume: an attempt starts over. As
in `training` the working directory is the run directory, every process predicts its share, and rank 0 alone writes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dynamic_rcnn.engine import build, checkpoint, results
from dynamic_rcnn.engine import setup as start
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.files import METRICS, remove_temporary, write_content
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Record

_WHERE = "in the evaluation"


class Evaluation:
    """One process's share of the evaluation; train.py uses it as it uses a Training."""

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        self.spec = spec
        self.stop = stop
        self.device = start.device()
        stop.check()
        self.root, self.fingerprint = start.prepared(spec)
        stop.check()
        beat()
        self.record = Record(Path(), 0)
        self.model = build.build_model(spec, initialise=False).to(self.device)
        self.metrics: EvaluationResults | None = None
        beat()

    def restore(self, note: str | None = None) -> None:
        """Begin the attempt and load the weights. Raises UserError if they are not those of the plan, or do not fit."""
        if distributed.is_main():
            remove_temporary(Path())
            self.record.start(0)
            if note:
                self.record.note(note)
        load_given(self.model, self.spec)
        beat()

    def write_provenance(self) -> None:
        """Record what it takes to repeat this attempt."""
        assert self.spec.init is not None
        start.write_provenance(self.device, self.fingerprint, self.spec.init["sha256"])

    def run(self) -> None:
        """Predict, write the detections and evaluate them. Raises InterruptedRunError at once for a signal."""
        self.stop.check()
        with self.stop.at_once(_WHERE):
            self.metrics = results.final(self.spec, self.model, self.root, 0)

    def finish(self) -> None:
        """Write metrics.json, which makes the run done."""
        if self.metrics is not None:
            self.record.progress(0)
            write_content(Path(METRICS), self.metrics)
            self.record.end("done")

    def bad_loss(self) -> None:
        """There is no loss."""


def load_given(model: torch.nn.Module, spec: RunSpec) -> None:
    """Load the weights of the file that the run was planned with. Raises UserError as `checkpoint.load_weights`."""
    assert spec.init is not None
    checkpoint.load_weights(model, Path(spec.init["file"]), spec.init["sha256"])

"""A run that evaluates weights from a file and trains nothing.

It ends with the same files as a training run. An interrupted attempt starts over. As in `trainer`, the working
directory is the run directory, every process predicts its share of the images, and only rank 0 writes.
"""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.engine import build, results, start
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.files import METRICS, write_content
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Record


class EvaluationRun:
    """One process's share of the evaluation; implements `train.Task`."""

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        self.spec = spec
        self.stop = stop
        self.device = start.select_device()
        stop.check()
        self.root, self.fingerprint = start.prepare_data(spec)
        stop.check()
        beat()
        self.record = Record(Path(), 0)
        self.model = build.build_model(spec, initialise=False).to(self.device)
        self.metrics: EvaluationResults | None = None
        beat()

    def restore(self, note: str | None) -> None:
        """Start the attempt and load the weights. Raises UserError if they differ from the planned or do not fit."""
        if distributed.is_main():
            start.start_attempt(self.record, 0, [note])
        start.load_given_weights(self.model, self.spec)
        beat()
        assert self.spec.init is not None
        start.write_provenance(self.device, self.fingerprint, self.spec.init["sha256"])

    def run(self) -> None:
        """Predict, write the detections and evaluate them. A signal raises InterruptedRunError at once."""
        self.stop.check()
        with self.stop.at_once("in the evaluation"):
            self.metrics = results.evaluate_final(self.spec, self.model, self.root, 0)

    def finish(self) -> None:
        """Write metrics.json, which makes the run done."""
        if self.metrics is not None:
            self.record.progress(0)
            write_content(Path(METRICS), self.metrics)
            self.record.end("done")

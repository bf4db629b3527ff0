"""A run that evaluates weights, of a file or of another run, and trains nothing.

It ends with the same files as a training run. An interrupted attempt starts over. Every process predicts its share of
the images.
"""

from __future__ import annotations

from dynamic_rcnn.engine import build, results, start
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.files import PROVENANCE, file_digest, read_content
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import RunSpec


class EvaluationRun(start.BaseRun):
    """One process's share of the evaluation; implements `train.Task`."""

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        super().__init__(spec, stop)
        self.model = build.build_model(spec, initialise=False).to(self.device)
        self.metrics: EvaluationResults | None = None
        beat()

    def restore(self, note: str | None) -> None:
        """Start the attempt and load the weights. Raises UserError if they differ from the planned or do not fit."""
        self.start_attempt([note])
        start.load_evaluated_weights(self.model, self.spec)
        beat()
        assert self.spec.init is not None
        self.write_provenance(self.spec.init.get("sha256") or self._note_trained())

    def _note_trained(self) -> str | None:
        """Note which weights of the other run are evaluated. Returns the digest of those that its training began with.

        The training is compared with others in the report, which differ if they began with other weights.
        """
        path = start.find_start_weights(self.spec)
        if distributed.is_main():
            self.record.note(f"evaluates {path.parents[1].name}, sha256 of its weights {file_digest(path)[:10]}")
        return read_content(Provenance, path.parents[1] / PROVENANCE).init_sha256

    def run(self) -> None:
        """Predict, write the detections and evaluate them. A signal raises InterruptedRunError at once."""
        self.stop.check()
        with self.stop.at_once("in the evaluation"):
            self.metrics = results.evaluate_final(self.spec, self.model, self.root, self.iteration)

    def finish(self) -> None:
        """Write metrics.json, which makes the run done."""
        self.write_results(self.metrics)

"""A run's results, during training and at its end. All processes predict; rank 0 evaluates and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.metrics.ap import compute_metrics, evaluate
from dynamic_rcnn.metrics.detections import write_detections
from dynamic_rcnn.run.files import DETECTIONS, EVALUATIONS, append_jsonl, read_jsonl
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def evaluate_during_training(spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> None:
    """Evaluate the current weights and append their metrics to evaluations.jsonl."""
    detections = _detect(spec, model, root)
    if detections is None:
        return
    metrics = evaluate(root / spec.dataset["val_ann"], detections, spec.has_masks, spec.evaluator)["metrics"]
    append_jsonl(Path(EVALUATIONS), {"iteration": iteration, **metrics})
    print(f"iteration {iteration}  AP {metrics['AP']}  AP90 {metrics['AP90']}", flush=True)


def is_evaluated(iteration: int) -> bool:
    """Whether evaluations.jsonl has a row of this iteration."""
    return any(row["iteration"] == iteration for row in read_jsonl(Path(EVALUATIONS)))


def evaluate_final(spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> EvaluationResults | None:
    """Write detections.json.gz and compute metrics.json's content from it; None on all ranks but 0."""
    detections = _detect(spec, model, root)
    if detections is None:
        return None
    write_detections(Path(DETECTIONS), detections)
    beat()
    return compute_metrics(Path(), spec, root, iteration)


def _detect(spec: RunSpec, model: BaseDetector, root: Path) -> list[dict[str, Any]] | None:
    dataset = build.build_dataset(spec, "val", root)
    beat()
    detections = predict(model, dataset, spec.config["train"]["workers"])
    beat()
    return detections

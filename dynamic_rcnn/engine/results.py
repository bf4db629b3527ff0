"""A run's results: evaluated in training, and at its end. All of its processes predict, rank 0 evaluates and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.evaluate import compute_metrics
from dynamic_rcnn.metrics.ap import evaluate, write_detections
from dynamic_rcnn.run.files import DETECTIONS, EVALUATIONS, append_jsonl, read_jsonl
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import EvaluationResults
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def evaluate_now(spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> None:
    """Evaluate weights in the middle of training, into evaluations.jsonl."""
    detections = _detections(spec, model, root)
    if detections is None:
        return
    metrics = evaluate(root / spec.dataset["val_ann"], detections, spec.has_masks)["metrics"]
    append_jsonl(Path(EVALUATIONS), {"iteration": iteration, **metrics})
    print(f"iteration {iteration}  AP {metrics['AP']}  AP90 {metrics['AP90']}", flush=True)


def is_evaluated(iteration: int) -> bool:
    """Whether evaluations.jsonl has a row of this iteration."""
    return any(row["iteration"] == iteration for row in read_jsonl(Path(EVALUATIONS)))


def final(spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> EvaluationResults | None:
    """Write detections.json.gz; what it holds makes the content of metrics.json, on rank 0; None on the others."""
    detections = _detections(spec, model, root)
    if detections is None:
        return None
    write_detections(Path(DETECTIONS), detections)
    beat()
    return compute_metrics(Path(), spec, root, iteration)


def _detections(spec: RunSpec, model: BaseDetector, root: Path) -> list[dict[str, Any]] | None:
    dataset = build.build_dataset(spec, "val", root)
    beat()
    found = predict(model, dataset, spec.config["train"]["workers"])
    beat()
    return found

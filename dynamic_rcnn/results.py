"""A run's results: evaluated in training, written at its end, and evaluated again from the saved detections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_rcnn import build
from dynamic_rcnn.evaluate import measure
from dynamic_rcnn.evaluation import evaluate, write_detections
from dynamic_rcnn.predict import predict
from dynamic_rcnn.run.directory import (
    DETECTIONS,
    EVALUATIONS,
    METRICS,
    append_jsonl,
    write_json_atomic,
)
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


def evaluate_now(run_dir: Path, spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> None:
    """Evaluate weights in the middle of training, into evaluations.jsonl."""
    dataset = build.build_dataset(spec, "val", root)
    detections = predict(model, dataset, spec.config["train"]["workers"])
    metrics = evaluate(root / spec.dataset["val_ann"], detections)["metrics"]
    append_jsonl(run_dir / EVALUATIONS, {"iteration": iteration, **metrics})
    print(f"iteration {iteration}  AP {metrics['AP']}  AP90 {metrics['AP90']}", flush=True)


def write(run_dir: Path, spec: RunSpec, model: BaseDetector, root: Path, iteration: int) -> None:
    """Write detections.json.gz, and from what it holds metrics.json."""
    dataset = build.build_dataset(spec, "val", root)
    write_detections(run_dir / DETECTIONS, predict(model, dataset, spec.config["train"]["workers"]))
    write_json_atomic(run_dir / METRICS, measure(run_dir, spec, root, iteration))

"""Evaluate a run's saved detections, without its model: `python -m dynamic_rcnn.evaluate RUN_DIR`.

Prints the metrics and says whether `metrics.json` holds exactly these; writes it where it is missing.
Exit codes: 0 equal or written, 1 `metrics.json` says something else (it is left as it is), 2 bad input. Torch-free.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dynamic_rcnn.data import dataset
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate_file
from dynamic_rcnn.run.files import DETECTIONS, METRICS, STATUS, read_json, write_content
from dynamic_rcnn.run.results import EvaluationResults, read_results
from dynamic_rcnn.run.spec import RunSpec

USAGE = "usage: python -m dynamic_rcnn.evaluate RUN_DIR   (a run directory with detections.json.gz)"


def compute_metrics(run_dir: Path, spec: RunSpec, root: Path, iteration: int) -> EvaluationResults:
    """Compute the content of metrics.json from the saved detections.

    Args:
        run_dir: directory of the run, with its detections.
        spec: of the run.
        root: folder to which the paths in `spec.dataset` are relative.
        iteration: how far the weights were trained that made the detections.
    """
    content = evaluate_file(root / spec.dataset["val_ann"], run_dir / DETECTIONS, spec.has_masks)
    return EvaluationResults(iteration=iteration, **content)


def evaluate_again(run_dir: Path) -> int:
    """Evaluate the detections in `run_dir` and compare with its metrics.json. Returns the exit code."""
    spec = RunSpec.read(run_dir)
    if not (run_dir / DETECTIONS).exists():
        raise UserError(f"{run_dir / DETECTIONS}: missing; the run has not been evaluated yet")
    root, _ = dataset.prepare(spec.dataset)
    found = compute_metrics(run_dir, spec, root, _iteration(run_dir))
    for name, value in found.metrics.items():
        print(f"{name:6s} {'undefined' if value is None else repr(value)}")
    if not (run_dir / METRICS).exists():
        write_content(run_dir / METRICS, found)
        print(f"written: {METRICS}, which was missing")
        return 0
    recorded = read_results(run_dir)
    if recorded == found:
        print(f"{METRICS} holds exactly these")
        return 0
    print(f"{METRICS} says something else (AP {recorded.metrics.get('AP')!r}); it is left as it is", file=sys.stderr)
    return 1


def _iteration(run_dir: Path) -> int:
    """How far the evaluated weights were trained: as recorded; detections are written after the last iteration."""
    source = METRICS if (run_dir / METRICS).exists() else STATUS
    iteration = read_json(run_dir / source).get("iteration")
    if not isinstance(iteration, int):
        raise UserError(f"{run_dir / source}: field 'iteration' is {iteration!r}; it must be an integer")
    return iteration


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        return evaluate_again(Path(sys.argv[1]).resolve())
    except UserError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Compute the metrics of a run's saved detections again, without its model. Torch-free.

    python -m dynamic_rcnn.evaluate RUN_DIR [evaluator=hotcoco]

evaluator   hotcoco, or pycocotools, which is the reference, gives the same numbers and takes about 50 times as long

Prints the metrics and compares them with metrics.json, or writes that file if it is missing. If the annotations have
changed since the run, it says so and writes nothing: launching again repeats the evaluation.
Exit codes: 0 equal or written, 1 metrics.json or the annotations differ (nothing is changed), 2 bad input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn import cli
from dynamic_rcnn.data import dataset
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import compute_metrics
from dynamic_rcnn.run.files import DETECTIONS, METRICS, STATUS, read_content, write_content
from dynamic_rcnn.run.results import read_results
from dynamic_rcnn.run.spec import EVALUATORS, HOTCOCO, RunSpec
from dynamic_rcnn.run.status import Status


def main(arguments: Sequence[str]) -> int:
    """Evaluate the detections in a run directory. Returns the exit code; raises UserError for bad input."""
    run_dir = cli.paths(arguments[:1], "RUN_DIR")[0].resolve()
    evaluator = cli.parse(arguments[1:], {"evaluator": HOTCOCO})["evaluator"]
    if evaluator not in EVALUATORS:
        raise UserError(f"argument 'evaluator' is {evaluator!r}; valid: {', '.join(EVALUATORS)}")
    spec = RunSpec.read(run_dir)
    if not (run_dir / DETECTIONS).exists():
        raise UserError(_why_missing(run_dir))
    found, change = dataset.find(spec.dataset)
    recorded = read_results(run_dir) if (run_dir / METRICS).exists() else None
    evaluated = recorded or read_content(Status, run_dir / STATUS)  # detections are written after the last iteration
    computed = compute_metrics(run_dir, spec, found.root, evaluated.iteration, evaluator)
    for name, value in computed.metrics.items():
        print(f"{name:6s} {'undefined' if value is None else repr(value)}")
    if change is not None:
        print(f"{found.root}: {change}; these are the metrics on the changed file", file=sys.stderr)
        return 1
    if recorded is None:
        write_content(run_dir / METRICS, computed)
        print(f"{METRICS} was missing and has been written")
        return 0
    if recorded == computed:
        print(f"{METRICS} has the same values")
        return 0
    print(f"{METRICS} has other values (AP {recorded.metrics.get('AP')!r}); it was not changed", file=sys.stderr)
    return 1


def _why_missing(run_dir: Path) -> str:
    """Why there are no detections, and the way out."""
    path = run_dir / DETECTIONS
    if not (run_dir / METRICS).exists():
        return f"{path}: missing; the run has not been evaluated yet"
    way_out = f"restore it, or move {METRICS} away and launch the grid again, which repeats the evaluation"
    return f"{path}: is missing although {METRICS} exists; {way_out}"


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

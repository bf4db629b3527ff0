"""Times the evaluation of boxes by hotcoco and by pycocotools on random data of the size of COCO val2017.

    python -m benchmarks.evaluator [images=5000] [boxes=36033] [categories=80] [detections=500000] [rounds=3] [seed=0]

Each evaluator runs in a process of its own, which loads the data from files and evaluates it `rounds` times, with
pycocotools once. Prints wall-clock time, CPU time and peak memory, the ratio, and whether all metrics are equal.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.time_bootstrap import draw_detections, draw_ground_truth, print_time
from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.metrics.ap import evaluate, load_ground_truth
from dynamic_rcnn.metrics.detections import read_detections, write_detections
from dynamic_rcnn.run.spec import EVALUATORS, HOTCOCO, PYCOCOTOOLS

ANNOTATIONS, DETECTIONS = "val.json", "detections.json.gz"
DEFAULTS = {
    **{"images": "5000", "boxes": "36033", "categories": "80", "detections": "500000"},
    **{"rounds": "3", "seed": "0"},
}


@dataclass(frozen=True)
class Timing:
    """Times in seconds, the best of all rounds, and memory in GB. loaded: the memory before the evaluation."""

    wall: float
    cpu: float
    loading: float
    loaded: float
    peak: float
    results: dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if both evaluators give the same metrics, else 1. Raises UserError for an argument."""
    size = {key: count(key, value, 0 if key == "seed" else 1) for key, value in parse(arguments, DEFAULTS).items()}
    with TemporaryDirectory() as folder:
        with print_time("draw the data"):
            _draw(Path(folder), size)
        rounds = {HOTCOCO: size["rounds"], PYCOCOTOOLS: 1}
        timings = {name: _in_own_process(_time, Path(folder), name, rounds[name]) for name in EVALUATORS}
    for name, found in timings.items():
        print(
            f"{name}: {found.wall:.2f} s ({found.cpu:.2f} s of CPU time), and {found.loading:.1f} s of CPU time to "
            f"load the files; peak memory {found.peak:.2f} GB, {found.loaded:.2f} GB before the evaluation"
        )
    ours, theirs = timings[HOTCOCO], timings[PYCOCOTOOLS]
    print(f"ratio: {ours.wall / theirs.wall:.1%} of the time, {ours.cpu / theirs.cpu:.1%} of the CPU time")
    equal = json.dumps(ours.results) == json.dumps(theirs.results)
    print(f"AP {ours.results['metrics']['AP']!r}; all metrics are {'equal to the last bit' if equal else 'NOT equal'}")
    return 0 if equal else 1


def _draw(folder: Path, size: dict[str, int]) -> None:
    rng = np.random.default_rng(size["seed"])
    coco = draw_ground_truth(size, rng)
    (folder / ANNOTATIONS).write_text(json.dumps(coco.dataset), encoding="utf-8")
    write_detections(folder / DETECTIONS, draw_detections(coco, size["detections"], rng))


def _in_own_process(function: Callable[..., Timing], *arguments: Any) -> Timing:
    """A new process, because a process cannot reset its peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _time(folder: Path, evaluator: str, rounds: int) -> Timing:
    started = time.process_time()
    coco, detections = load_ground_truth(folder / ANNOTATIONS), read_detections(folder / DETECTIONS)
    loading, loaded = time.process_time() - started, _peak()
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        results = evaluate(coco, detections, evaluator=evaluator)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Timing(min(walls), min(cpus), loading, loaded, _peak(), results)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

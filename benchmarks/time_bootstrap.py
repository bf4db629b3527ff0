"""Times the bootstrap on random data of the size of COCO val2017, and prints its peak memory.

    python -m benchmarks.time_bootstrap [resamples=200] [workers=2] [models=12] [images=5000] [boxes=36000]
        [categories=80] [detections=500000] [seed=0] [reference=false]

boxes, detections   total numbers; `detections` per model
reference           true: also time pycocotools on one model, for comparison
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from analysis.detections.bootstrap import bootstrap
from analysis.detections.matching import match
from dynamic_rcnn.cli import boolean, count, parse, run
from dynamic_rcnn.metrics.columns import Floats, Integers, read_detections, read_objects

SIDE = 640.0  # pixels, of an image
DEFAULTS = {
    **{"resamples": "200", "workers": "2", "models": "12", "seed": "0", "reference": "false"},
    **{"images": "5000", "boxes": "36000", "categories": "80", "detections": "500000"},
}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for an argument that is not a number."""
    values = parse(arguments, DEFAULTS)
    reference = boolean("reference", values.pop("reference"))
    size = {key: count(key, value, 0 if key == "seed" else 1) for key, value in values.items()}
    rng = np.random.default_rng(size["seed"])
    with print_time("draw the ground truth"):
        coco = draw_ground_truth(size, rng)
    objects, matches = read_objects(coco), []
    for number in range(1, size["models"] + 1):
        rows = draw_detections(coco, size["detections"], rng)
        if reference and number == 1:
            _match_with_pycocotools(coco, rows)
        detections = read_detections(objects, rows)
        with print_time(f"match model {number}"):
            matches.append(match(objects, detections))
    with print_time(f"{size['resamples']} resamples of {len(matches)} models, {size['workers']} processes"):
        sampling = bootstrap(matches, size["resamples"], rng, size["workers"]).sampling()
    for metric, (values, covariance) in sampling.items():
        error = 100 * float(covariance[0, 0]) ** 0.5
        print(f"{metric} of model 1: {100 * values[0]:.2f} with a standard error over images of {error:.2f}")
    own, child = (resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    others = child * size["workers"] if size["workers"] > 1 else 0.0
    # Linux counts what this process held when it started a child as the child's too, so the sum is an upper bound
    print(f"peak memory: {own:.2f} GB here, at most {own + others:.2f} GB with {size['workers']} workers")
    return 0


@contextmanager
def print_time(what: str) -> Iterator[None]:
    """Print the block's wall-clock time, and its CPU time with that of its finished child processes."""
    start, used = time.perf_counter(), _cpu_seconds()
    yield
    passed, spent = time.perf_counter() - start, _cpu_seconds() - used
    print(f"{what}: {passed:.1f} s ({spent:.1f} s of CPU time)", flush=True)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def draw_ground_truth(size: dict[str, int], rng: np.random.Generator) -> COCO:
    """Random boxes of 8 to 300 pixels, four categories per image, some far more frequent than others."""
    frequency = 1 / np.arange(1, size["categories"] + 1) ** 0.8
    present = rng.choice(size["categories"], (size["images"], 4), p=frequency / frequency.sum())
    image = rng.integers(0, size["images"], size["boxes"])
    category = present[image, rng.integers(0, 4, size["boxes"])]
    rows = _rows(image, category, _draw_boxes(size["boxes"], rng))
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": int(SIDE), "height": int(SIDE)}
            for number in range(1, size["images"] + 1)
        ],
        "categories": [{"id": number, "name": str(number)} for number in range(1, size["categories"] + 1)],
        "annotations": [
            {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(rows, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def draw_detections(coco: COCO, number: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Random detections in COCO's results format: a third near objects with higher scores, the others anywhere."""
    objects = read_objects(coco)
    near, far = number // 3, number - number // 3
    source = rng.integers(0, len(objects.image), near)
    noise = rng.normal(0, 1, (near, 4)) * rng.uniform(0.01, 0.15, (near, 1)) * objects.box[source][:, [2, 3, 2, 3]]
    moved = objects.box[source] + noise
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    image = np.append(objects.image[source], rng.integers(0, len(objects.image_ids), far))
    category = np.append(objects.category[source], rng.integers(0, len(objects.category_ids), far))
    score = np.append(rng.beta(2, 2, near), rng.beta(0.6, 6, far)).astype(np.float32)
    rows = _rows(image, category, np.concatenate([moved, _draw_boxes(far, rng)]))
    return [{**row, "score": number} for row, number in zip(rows, score.tolist(), strict=True)]


def _draw_boxes(count: int, rng: np.random.Generator) -> Floats:
    side = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
    corner: Floats = rng.uniform(0, 1, (count, 2)) * (SIDE - side)
    return np.concatenate([corner, side], axis=1)


def _rows(image: Integers, category: Integers, box: Floats) -> list[dict[str, Any]]:
    columns = zip((image + 1).tolist(), (category + 1).tolist(), box.tolist(), strict=True)
    return [{"image_id": i, "category_id": c, "bbox": b} for i, c, b in columns]


def _match_with_pycocotools(coco: COCO, rows: list[dict[str, Any]]) -> None:
    with print_time("pycocotools, one model: loadRes"), contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in rows]), "bbox")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    with print_time("pycocotools, one model: evaluate, one area range"), contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    with print_time("pycocotools, one model: accumulate"), contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

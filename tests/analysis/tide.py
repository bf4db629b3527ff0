"""Writes the errors that tidecv 1.0.1 finds in the odd cases to tide.json, with which test_tide compares.

    python -m tests.analysis.tide

Needs tidecv, which is not a dependency because it installs another OpenCV.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.detections.tide import IOUS
from tests.analysis.drawn_detections import CATEGORIES, Row, odd_case

RECORDED = Path(__file__).with_name("tide.json")
SEEDS = range(6)
WITH_OBJECTS = CATEGORIES[:3]


def case(seed: int) -> tuple[list[int], list[Row], list[Row]]:
    """`odd_case` without ties, and without the category that has no object: tidecv counts its AP as 0."""
    images, annotations, found = odd_case(seed, ties=False)
    return images, annotations, [row for row in found if row["category_id"] in WITH_OBJECTS]


def main() -> None:
    RECORDED.write_text(json.dumps([_errors_of(seed, iou) for seed in SEEDS for iou in IOUS], indent=1) + "\n")


def _errors_of(seed: int, iou: float) -> dict[str, Any]:
    from tidecv.errors import main_errors as kinds
    from tidecv.quantify import TIDERun

    by_name = {
        "classification": kinds.ClassError,
        "localisation": kinds.BoxError,
        "both": kinds.OtherError,
        "duplicate": kinds.DuplicateError,
        "background": kinds.BackgroundError,
        "missed": kinds.MissedError,
    }
    images, annotations, found = case(seed)
    run = TIDERun(_ground_truth(images, annotations), _detections(found), iou, 0.1, "bbox", 100)
    gains, counts = run.fix_main_errors(), run.count_errors(list(by_name.values()))
    return {
        "seed": seed,
        "iou": iou,
        "ap": run.ap / 100,
        "gain": {name: gains[kind] / 100 for name, kind in by_name.items()},
        "count": {name: counts[kind] for name, kind in by_name.items()},
    }


def _ground_truth(images: Sequence[int], annotations: Sequence[Row]) -> Any:
    data = _data()
    for image in images:
        data.add_image(image, str(image))
    for row in annotations:
        add = data.add_ignore_region if row["iscrowd"] else data.add_ground_truth
        add(row["image_id"], row["category_id"], row["bbox"])
    return data


def _detections(found: Sequence[Row]) -> Any:
    data = _data()
    for row in found:
        data.add_detection(row["image_id"], row["category_id"], row["score"], row["bbox"])
    return data


def _data() -> Any:
    from tidecv import Data

    data = Data("case", max_dets=100)
    for category in WITH_OBJECTS:
        data.add_class(category, str(category))
    return data


if __name__ == "__main__":
    main()

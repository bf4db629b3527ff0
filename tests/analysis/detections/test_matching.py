"""analysis.detections.matching and dynamic_rcnn.metrics.columns against COCOeval.evaluate, flag by flag."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.detections.matching import AREAS, IOU_THRESHOLDS
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis.drawn_detections import Row, coco_of, detection, evaluated, matches_of, odd_case


def pycocotools_flags(coco: Any, found: list[Row], area: int, category: int) -> tuple[np.ndarray, ...]:
    """Scores, matched, ignored, and the number of objects that count, in the order of COCOeval.accumulate."""
    evaluation = evaluated(coco, found)
    params = evaluation.params
    images = len(params.imgIds)
    start = (category * len(params.areaRng) + area) * images
    rows = [row for row in evaluation.evalImgs[start : start + images] if row is not None]
    if not rows:
        return np.zeros(0), np.zeros((10, 0), bool), np.zeros((10, 0), bool), np.array(0)
    scores = np.concatenate([row["dtScores"] for row in rows])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([row["dtMatches"] for row in rows], axis=1)[:, order] > 0
    ignored = np.concatenate([row["dtIgnore"] for row in rows], axis=1)[:, order].astype(bool)
    objects = np.concatenate([row["gtIgnore"] for row in rows])
    return scores[order], matched, ignored, np.array(np.count_nonzero(objects == 0))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("area", list(AREAS))
@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_flag_by_flag(seed: int, area: str, ties: bool) -> None:
    images, annotations, found = odd_case(seed, ties=ties)
    coco = coco_of(images, annotations)
    matches = matches_of(coco, found, area)
    for category in range(len(matches.names)):
        rows = matches.category == category
        expected = pycocotools_flags(coco, found, list(AREAS).index(area), category)
        ours = matches.score[rows], matches.matched[:, rows], matches.ignored[:, rows]
        for flags, theirs in zip(ours, expected[:3], strict=True):
            assert np.array_equal(flags, theirs)
        assert np.count_nonzero(matches.object_category == category) == expected[3]


def test_the_odd_cases_contain_every_oddity() -> None:
    images, annotations, found = odd_case(0)
    coco = coco_of(images, annotations)
    with_objects, with_detections = ({row["image_id"] for row in rows} for rows in (annotations, found))
    matches = matches_of(coco, found)
    assert images != sorted(images)
    assert set(images) - with_objects - with_detections and with_objects - with_detections
    assert with_detections - with_objects
    assert any(row["iscrowd"] for row in annotations) and any(row.get("area") for row in annotations)
    assert len(matches.image) < len(found)  # over 100 of a category on one image
    assert (matches.matched & matches.ignored).any() and (matches.true & ~matches.true[-1]).any()
    assert not (matches.object_category == 3).any() and (matches.category == 3).any()


def test_the_detection_with_the_higher_score_takes_the_object() -> None:
    """IoU of a box 100 x 100 and its part 100 x 80: 0.8; of its part 100 x 60: 0.6, true up to threshold 0.60."""
    coco = coco_of([1], [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 100, 100]}])
    matches = matches_of(coco, [detection(1, 2, [0, 0, 100, 80], 0.3), detection(1, 2, [0, 0, 100, 60], 0.9)])
    assert matches.score.tolist() == [0.9, 0.3]
    low = IOU_THRESHOLDS < 0.61
    assert matches.true[0].tolist()[0] is True
    assert np.array_equal(matches.true[:, 0], low)
    assert np.array_equal(matches.true[:, 1], ~low & (IOU_THRESHOLDS < 0.81))


@pytest.mark.parametrize(("field", "value"), [("image_id", 99), ("category_id", 1)])
def test_detections_of_another_data_set_are_refused(field: str, value: int) -> None:
    objects = read_objects(coco_of([4, 5], [{"image_id": 4, "category_id": 2, "bbox": [0, 0, 10, 10]}]))
    with pytest.raises(UserError, match=rf"detections: {field} {value} is not in the annotations \(1 such values\)"):
        read_detections(objects, [{**detection(4, 2, [0, 0, 10, 10], 0.5), field: value}])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_ids_beyond_64_bits_are_refused(number: int) -> None:
    with pytest.raises(UserError, match=r"annotations: an image id does not fit into 64 bits; renumber the ids"):
        read_objects(coco_of([4, number], []))
    with pytest.raises(UserError, match=r"detections: image_id does not fit into 64 bits"):
        read_detections(read_objects(coco_of([4], [])), [detection(number, 2, [0, 0, 10, 10], 0.5)])

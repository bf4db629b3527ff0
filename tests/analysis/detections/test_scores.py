"""analysis.detections.scores: cases worked out by hand, over odd data, and without detections or objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.detections.matching import match
from analysis.detections.scores import (
    BINS,
    IOUS,
    MAX_CLASSES,
    MEAN_IOU,
    MIN_DETECTIONS,
    POSITIONS,
    PRECISION,
    TRUE_POSITIVES,
    Scores,
    calibration_rows,
    confusion_of,
    curve_rows,
    read_scores,
)
from analysis.detections.weighted_ap import Accumulation
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis.drawn_detections import Row, coco_of, detection, odd_case

A, B = 2, 3
BOX, NINETY = [0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 100.0, 90.0]  # IoU 0.9
IMAGES = list(range(1, 2 * MIN_DETECTIONS + 1))


def scores_of(objects: list[Row], found: list[Row], images: list[int] = IMAGES) -> Scores:
    read = read_objects(coco_of(images, objects, (A, B)))
    detections = read_detections(read, found)
    return read_scores(read, detections, match(read, detections))


def thing(image: int, category: int = A) -> Row:
    return {"image_id": image, "category_id": category, "bbox": BOX}


@pytest.fixture
def by_hand() -> Scores:
    """20 images with an object of A. Half are found with score 0.95 and IoU 1, half with 0.75 and IoU 0.9.

    In the first 10 images a box with score 0.75 finds nothing; in the last one an object of B is detected as A.
    """
    objects = [*map(thing, IMAGES), {**thing(IMAGES[-1], B), "bbox": [300.0, 0.0, 50.0, 50.0]}]
    sure = [detection(image, A, BOX, 0.95) for image in IMAGES[:MIN_DETECTIONS]]
    unsure = [detection(image, A, NINETY, 0.75) for image in IMAGES[MIN_DETECTIONS:]]
    lost = [detection(image, A, [500, 500, 10, 10], 0.75) for image in IMAGES[:MIN_DETECTIONS]]
    return scores_of(objects, [*sure, *unsure, *lost, detection(IMAGES[-1], A, [300, 0, 50, 50], 0.55)])


def test_curves_over_the_score(by_hand: Scores) -> None:
    """The bin of 0.55 has one detection and is left out. At 0.75, 10 of 20 find something."""
    assert [list(values) for values in by_hand.curves[MEAN_IOU, None]] == [[0.75, 0.95], [pytest.approx(0.45), 1.0]]
    for iou in (0.5, 0.75):
        assert [list(values) for values in by_hand.curves[TRUE_POSITIVES, iou]] == [[0.75, 0.95], [0.5, 1.0]]


def test_calibration_is_the_mean_gap_of_the_bins(by_hand: Scores) -> None:
    """Gaps 0.05, 0.25 and 0.55 of 10, 20 and 1 detections."""
    assert by_hand.calibration[0.5] == pytest.approx((10 * 0.05 + 20 * 0.25 + 0.55) / 31)


def test_confusion_is_of_detections_with_a_score_above_the_limit(by_hand: Scores) -> None:
    """Rows: A, B, no object. Columns: detected as A, as B, not found."""
    assert by_hand.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_over_recall_is_ap_and_bins_are_those_of_the_matches(seed: int) -> None:
    images, objects, found = odd_case(seed, images=25)
    read = read_objects(coco_of(images, objects))
    detections = read_detections(read, found)
    matches = match(read, detections)
    result = read_scores(read, detections, matches)
    by_iou = Accumulation(matches).by_iou(np.ones(len(images), np.int64))
    for iou, at in POSITIONS.items():
        assert np.mean(result.curves[PRECISION, iou][1]) == pytest.approx(by_iou[at], abs=1e-12)
        counted = ~matches.ignored[at]
        score, true = matches.score[counted], matches.true[at][counted]
        bins = np.minimum((score * BINS).astype(int), BINS - 1)
        gaps = [abs(score[bins == each].sum() - true[bins == each].sum()) for each in range(BINS)]
        assert result.calibration[iou] == pytest.approx(sum(gaps) / len(score), abs=1e-9)


@pytest.mark.parametrize("objects", [[], [thing(1)]])
def test_without_detections_there_are_no_curves_over_the_score(objects: list[Row]) -> None:
    result = scores_of(objects, [])
    for key in [(MEAN_IOU, None), *((TRUE_POSITIVES, iou) for iou in IOUS)]:
        assert not len(result.curves[key][0])
    assert ((PRECISION, 0.5) in result.curves) == bool(objects)
    assert all(map(math.isnan, result.calibration.values()))
    assert {row["error"] for row in calibration_rows({"both": [result]})} == {None}


def test_rows_are_means_over_seeds_with_the_lowest_and_the_highest() -> None:
    def one(y: float, error: float) -> Scores:
        return Scores({(MEAN_IOU, None): (np.array([0.5]), np.array([y]))}, dict.fromkeys(IOUS, error), np.eye(3))

    arms = {"both": [one(0.2, 0.1), one(0.6, 0.2)]}
    (row,) = curve_rows(arms)
    assert row == {
        **{"arm": "both", "kind": MEAN_IOU, "iou": None},
        **{"x": [0.5], "middle": [pytest.approx(0.4)], "low": [0.2], "high": [0.6]},
    }
    assert calibration_rows(arms) == [{"arm": "both", "iou": iou, "error": 0.15} for iou in IOUS]
    assert curve_rows({}) == []


def test_a_bin_that_one_seed_lacks_is_left_out() -> None:
    runs = [Scores({(MEAN_IOU, None): (np.array(x), np.array(x))}, {}, np.eye(3)) for x in ([0.5, 0.6], [0.6])]
    assert [row["x"] for row in curve_rows({"both": runs})] == [[0.6]]


def test_detections_of_crowds_do_not_count() -> None:
    """Each image has a crowd with a detection in it; in one of them, that detection is also a true positive."""
    crowds = [{**thing(image), "iscrowd": 1} for image in IMAGES]
    found = [detection(image, A, [10, 10, 20, 20], 0.95) for image in IMAGES]
    result = scores_of([*crowds, {**thing(1), "bbox": [10.0, 10.0, 20.0, 20.0]}], found)
    assert not len(result.curves[MEAN_IOU, None][0]) and result.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert result.calibration[0.5] == pytest.approx(0.05)


def test_scores_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(UserError, match=r"score is 1.5; calibration needs scores from 0 to 1"):
        scores_of([thing(1)], [detection(1, A, BOX, 1.5)])


@pytest.mark.parametrize("count", [1, MAX_CLASSES])
def test_up_to_the_limit_all_classes_are_kept(count: int) -> None:
    names, confusion = [f"class{number}" for number in range(count)], np.eye(count + 1)
    confusion[0, -1] = 0.25  # not found
    kept = confusion_of(names, {"both": [Scores({}, {}, confusion)]})
    assert kept == {"of": count, "classes": names, "shares": {"both": confusion.tolist()}}


def test_of_many_classes_those_that_are_confused_most_are_kept_in_their_order() -> None:
    names = [f"class{number}" for number in range(MAX_CLASSES + 2)]
    confusion = np.eye(len(names) + 1)
    confusion[5, 9] = 0.5
    kept = confusion_of(names, {"both": [Scores({}, {}, confusion)]})
    assert (
        len(kept["classes"]) == MAX_CLASSES
        and kept["of"] == len(names)
        and kept["classes"] == sorted(kept["classes"], key=names.index)
    )
    assert {"class5", "class9"} <= set(kept["classes"])
    (row,) = [r for name, r in zip(kept["classes"], kept["shares"]["both"], strict=False) if name == "class5"]
    assert row[kept["classes"].index("class9")] == 0.5 and len(row) == MAX_CLASSES + 1

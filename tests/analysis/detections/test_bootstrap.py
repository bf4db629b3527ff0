"""Resampling by weights equals pycocotools on data sets with repeated images, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.detections.bootstrap import Bootstrap, bootstrap, draw_weights
from analysis.detections.matching import AREAS, Matches
from analysis.detections.weighted_ap import METRICS, RECALL_THRESHOLDS, Accumulation, needed_positives
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate
from tests.analysis.drawn_detections import Row, coco_of, detection, evaluated, matches_of, odd_case, resampled


def case(seed: int, ties: bool = True, keep: float = 1.0) -> Matches:
    images, annotations, found = odd_case(0, ties=ties)
    rng = np.random.default_rng(seed)
    return matches_of(coco_of(images, annotations), [row for row in found if rng.uniform() < keep])


def assert_equal(images: list[int], annotations: list[Row], found: list[Row], weights: list[int]) -> Accumulation:
    """Compare precision by IoU, recall, category and area range, and all metrics, with those of pycocotools."""
    coco = coco_of(images, annotations)
    whole, copies = resampled(coco, found, weights)
    expected = evaluated(whole, copies).eval["precision"]
    drawn = np.array(weights, np.uint16)
    for at, area in enumerate(AREAS):
        ours, defined = Accumulation(matches_of(coco, found, area), max(weights)).by_segment(drawn)
        theirs = expected[:, :, :, at, -1].transpose(0, 2, 1)  # -1 for a category without objects
        assert np.array_equal(ours[:, defined], theirs[:, defined]) and (theirs[:, ~defined] == -1).all()
    accumulation = Accumulation(matches_of(coco, found), max(weights))
    metrics = evaluate(whole, copies)["metrics"]
    found_metrics = {n: None if math.isnan(v) else v for n, v in zip(METRICS, accumulation.metrics(drawn), strict=True)}
    assert found_metrics == {name: metrics[name] for name in METRICS}
    return accumulation


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_weights_equal_repeated_images(seed: int, ties: bool) -> None:
    images, annotations, found = odd_case(seed, ties=ties)
    for weights in draw_weights(len(images), 2, np.random.default_rng(seed)).tolist():
        assert_equal(images, annotations, found, weights)


def test_the_original_images_give_the_metrics_of_the_run() -> None:
    images, annotations, found = odd_case(5)
    assert_equal(images, annotations, found, [1] * len(images))


def test_a_recall_threshold_is_a_number_of_true_positives_by_float_division() -> None:
    """ceil(recall x objects) can be too high or too low: 0.07 x 100 is 7.000000000000001, other products round down."""
    sizes = np.arange(1, 2000)
    guess = np.maximum(np.ceil(RECALL_THRESHOLDS * sizes[:, None]), 1)
    expected = np.array([np.searchsorted(np.arange(size + 1) / size, RECALL_THRESHOLDS) for size in sizes])
    found = needed_positives(sizes.astype(np.float64))
    assert np.array_equal(found, np.maximum(expected, 1))
    assert (guess > found).any() and (guess < found).any()
    assert needed_positives(np.zeros(1)).min() > 2e9  # no object: out of reach


def test_ties_within_an_image_are_taken_copy_by_copy() -> None:
    """Two copies of a true and a false detection with one score: precision at the second true one is 2/3, not 1."""
    images, box = [1, 2], [0.0, 0.0, 50.0, 50.0]
    annotations: list[Row] = [{"image_id": number, "category_id": 2, "bbox": box} for number in images]
    found = [
        *(detection(1, 2, box, 0.5), detection(1, 2, [60, 60, 50, 50], 0.5)),
        *(detection(2, 2, [60, 60, 50, 50], 0.5), detection(2, 2, box, 0.5)),
    ]
    accumulation = assert_equal(images, annotations, found, [2, 0])
    precision = accumulation.by_segment(np.array([2, 0]))[0][0, 0]
    assert precision[[0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3], rel=1e-15)
    assert_equal(images, annotations, found, [0, 3])
    assert_equal(images, annotations, found, [3, 2])


def test_ties_between_images_are_taken_image_by_image() -> None:
    """Images are processed in the order of their ids, not of the file."""
    box = [0.0, 0.0, 50.0, 50.0]
    annotations: list[Row] = [{"image_id": number, "category_id": 2, "bbox": box} for number in (9, 4)]
    found = [detection(9, 2, box, 0.5), detection(4, 2, [70, 0, 50, 50], 0.5)]
    accumulation = assert_equal([9, 4], annotations, found, [2, 3])  # image 4 twice: false, false, then true ones
    assert accumulation.by_segment(np.array([2, 3]))[0][0, 0, 0] == 3 / 5


@pytest.mark.parametrize("found", [[], [detection(1, 2, [0, 0, 9, 9], 0.5)]], ids=["no detections", "one, false"])
def test_a_run_without_detections(found: list[Row]) -> None:
    annotations: list[Row] = [{"image_id": 2, "category_id": 2, "bbox": [0, 0, 50, 50]}]
    accumulation = assert_equal([1, 2], annotations, found, [1, 1])
    assert accumulation.metrics(np.array([1, 1])).tolist() == [0.0] * len(METRICS)
    assert_equal([1, 2], annotations, found, [0, 2])
    nothing = assert_equal([1, 2], annotations, found, [2, 0])  # no object at all is drawn
    assert np.isnan(nothing.metrics(np.array([2, 0]))).all()


def test_a_category_without_objects_in_the_resample_is_left_out_of_the_mean() -> None:
    box = [0.0, 0.0, 50.0, 50.0]
    annotations: list[Row] = [
        {"image_id": 1, "category_id": 2, "bbox": box},
        {"image_id": 2, "category_id": 3, "bbox": box},
    ]
    found = [detection(1, 2, box, 0.9), detection(1, 3, box, 0.9)]
    accumulation = assert_equal([1, 2], annotations, found, [1, 1])
    assert accumulation.metrics(np.array([1, 1]))[0] == pytest.approx(0.5, abs=1e-15)
    assert_equal([1, 2], annotations, found, [2, 0])
    assert accumulation.by_segment(np.array([1, 0]))[1].tolist() == [True, False, False, False]


def test_weights_that_do_not_fit_are_refused() -> None:
    accumulation = Accumulation(case(0), 2)
    with pytest.raises(ValueError, match="at most copies=2"):
        accumulation.metrics(np.full(9, 3))
    with pytest.raises(ValueError, match="they must be 9, one per image"):
        accumulation.metrics(np.ones(8, int))


def test_a_resample_has_as_many_images_as_the_data_set() -> None:
    weights = draw_weights(50, 200, np.random.default_rng(0))
    assert weights.shape == (200, 50) and (weights.sum(axis=1) == 50).all()
    assert 0.3 < (weights == 0).mean() < 0.43  # 1/e


def runs() -> list[Matches]:
    return [case(1, keep=0.5), case(2, keep=0.5), case(3, keep=0.9)]


def test_the_result_depends_only_on_the_generator() -> None:
    first = bootstrap(runs(), 60, np.random.default_rng(7))
    again, spread = (bootstrap(runs(), 60, np.random.default_rng(7), workers) for workers in (1, 2))
    other = bootstrap(runs(), 60, np.random.default_rng(8))
    assert first.samples.tobytes() == again.samples.tobytes() == spread.samples.tobytes()
    assert not np.array_equal(first.samples, other.samples, equal_nan=True)
    assert first.point.tobytes() == other.point.tobytes()


def test_all_runs_are_evaluated_on_the_same_images() -> None:
    found = bootstrap(runs(), 20, np.random.default_rng(7))
    weights = draw_weights(9, 20, np.random.default_rng(7))
    for at, row in enumerate(weights):
        expected = [Accumulation(run, int(row.max())).metrics(row) for run in runs()]
        for metric, iou in METRICS.items():
            column = [values[list(METRICS).index(metric)] for values in expected]
            ours = found.samples[at].mean(axis=1) if iou is None else found.samples[at, :, round((iou - 0.5) / 0.05)]
            assert ours == pytest.approx(column, abs=1e-15, nan_ok=True)


def test_the_covariance_is_that_of_the_samples_with_objects() -> None:
    samples = np.random.default_rng(0).uniform(0, 1, (12, 3, 10))
    samples[11] = np.nan  # a resample without objects
    found = Bootstrap(samples[0], samples).sampling()
    assert list(found) == ["AP", "0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]
    values, covariance = found["0.90"]
    assert np.array_equal(values, samples[0, :, 8])
    assert covariance == pytest.approx(np.cov(samples[:11, :, 8], rowvar=False))
    assert found["AP"][1] == pytest.approx(np.cov(samples[:11].mean(axis=2), rowvar=False))
    assert Bootstrap(samples[0], samples[10:]).sampling() == {} == Bootstrap(samples[11], samples).sampling()


def test_equal_runs_have_no_difference_over_images() -> None:
    _, covariance = bootstrap([case(1), case(1)], 30, np.random.default_rng(0)).sampling()["AP"]
    assert covariance[0, 0] == covariance[0, 1] == covariance[1, 1] > 0


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match="resamples is 1; it must be at least 2"):
        bootstrap(runs(), 1, rng)
    with pytest.raises(UserError, match="no run to resample"):
        bootstrap([], 10, rng)
    with pytest.raises(UserError, match="run 3 was evaluated on different images or categories than run 0"):
        bootstrap([*runs(), matches_of(coco_of([1], []), [])], 10, rng)

"""analysis.detections.changes against pycocotools, and per-image scores worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.detections.changes import ap_by_category_and_size, image_scores, images_that_differ, largest_changes
from analysis.detections.matching import AREAS, Matches
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.columns import read_detections, read_objects
from tests.analysis.drawn_detections import Row, coco_of, detection, evaluated, matches_of, odd_case

BOX = [0.0, 0.0, 100.0, 100.0]
EIGHTY = [0.0, 0.0, 100.0, 80.0]  # IoU 0.8: true at 7 of the 10 thresholds


@pytest.mark.parametrize("seed", range(3))
def test_ap_by_category_and_size_equals_pycocotools(seed: int) -> None:
    images, annotations, found = odd_case(seed)
    coco = coco_of(images, annotations)
    objects = read_objects(coco)
    frame = ap_by_category_and_size(objects, read_detections(objects, found)).set_index(["category", "size"])
    results = evaluate(coco, found)
    metrics = results["metrics"]
    means = {"all": "AP", "small": "APs", "medium": "APm", "large": "APl"}
    assert {name: frame.loc[("all", size), "AP"] for size, name in means.items()} == {
        n: metrics[n] for n in means.values()
    }
    for name, values in results["per_class"].items():
        for metric, value in values.items():
            assert frame.loc[(name, "all"), metric] == (pytest.approx(np.nan, nan_ok=True) if value is None else value)
    precision = evaluated(coco, found).eval["precision"]
    for at, size in enumerate(AREAS):
        ours = frame.loc[("class2", size), "AP75"]
        assert ours == np.mean(precision[5, :, 0, at, -1])


def test_largest_changes_are_differences_of_means_over_seeds() -> None:
    keys = {"category": ["all", "cat", "dog", "eel"], "size": "all"}
    arm = [pd.DataFrame({**keys, "AP": [0.5, 0.4, 0.6, np.nan]}), pd.DataFrame({**keys, "AP": [0.7, 0.4, 0.8, np.nan]})]
    frame = largest_changes(arm, [pd.DataFrame({**keys, "AP": [0.5, 0.7, 0.5, np.nan]})])
    assert list(frame["category"]) == ["cat", "dog", "all"]
    assert frame["difference"].tolist() == pytest.approx([-0.3, 0.2, 0.1])
    assert frame["arm"].tolist() == pytest.approx([0.4, 0.7, 0.6])


def matches(*found: Row) -> Matches:
    """Image 4: two objects; image 6: one; image 8: none."""
    objects = [
        {"image_id": image, "category_id": 2, "bbox": box}
        for image, box in ((6, BOX), (4, BOX), (4, [200.0, 0.0, 100.0, 100.0]))
    ]
    return matches_of(coco_of([8, 4, 6], objects), found)


def test_the_score_of_an_image_is_its_f1() -> None:
    """Image 4: one of two objects found at 7 of 10 thresholds, one false box: 2/(2 + 1 + 1) = 0.5 there, else 0."""
    found = [
        *(detection(4, 2, EIGHTY, 0.9), detection(4, 3, BOX, 0.6)),
        detection(4, 2, [200, 0, 100, 100], 0.4),  # below the score that counts
        detection(6, 2, BOX, 0.5),
    ]
    assert image_scores(matches(*found)).tolist() == pytest.approx([0.35, 1.0, 1.0])
    assert image_scores(matches(detection(8, 2, BOX, 0.9))).tolist() == [0.0, 0.0, 0.0]


def test_ignored_detections_do_not_count_in_a_score() -> None:
    crowd = {"image_id": 1, "category_id": 2, "bbox": [200.0, 0.0, 100.0, 100.0], "iscrowd": 1}
    coco = coco_of([1], [{"image_id": 1, "category_id": 2, "bbox": BOX}, crowd])
    found = [detection(1, 2, BOX, 0.9), detection(1, 2, [210, 10, 20, 20], 0.9)]
    assert image_scores(matches_of(coco, found)).tolist() == [1.0]


def test_images_are_ranked_by_the_difference_of_means_over_seeds() -> None:
    arm = [matches(detection(6, 2, BOX, 0.9)), matches(detection(6, 2, EIGHTY, 0.9), detection(8, 2, BOX, 0.9))]
    frame = images_that_differ(arm, [matches()])
    assert frame["image_id"].tolist() == [6, 8, 4]
    assert frame["difference"].tolist() == pytest.approx([0.85, -0.5, 0.0])
    assert frame["arm"].tolist() == pytest.approx([0.85, 0.5, 0.0])
    turned = images_that_differ([matches()], arm)
    assert turned["difference"].tolist() == pytest.approx([-0.85, 0.5, 0.0])
    same = images_that_differ(arm, arm)
    assert same["image_id"].tolist() == [4, 6, 8] and not same["difference"].any()


def test_arms_that_cannot_be_compared_are_refused() -> None:
    other = matches_of(coco_of([1], []), [])
    with pytest.raises(UserError, match="the arms were evaluated on different images"):
        images_that_differ([matches()], [other])
    with pytest.raises(UserError, match="an arm has no run"):
        images_that_differ([matches()], [])

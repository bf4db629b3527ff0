"""Statistics as the author's code takes them: cases computed by hand, and the head against a loop over boxes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.method.author import Assignment
from dynamic_rcnn.method.schedule import DynamicSchedule
from dynamic_rcnn.run.statistic import JOINT_IOUS, PARTS, UPPER_MEDIAN, statistic_parts
from tests.dynamic_rcnn.method.test_roi_head import CONSTANTS, batch, make

GT_BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
PRIORS = torch.tensor([[0.0, 0, 10, 8], [20, 20, 30, 24], [0, 0, 10, 3]])  # IoU 0.8, 0.4 and 0.3 with the best box


def assignment(gt_inds: list[int], overlaps: list[float], gt_boxes: torch.Tensor = GT_BOXES) -> Assignment:
    result: Any = SimpleNamespace(gt_inds=torch.tensor(gt_inds), max_overlaps=torch.tensor(overlaps))
    return Assignment(result, PRIORS, gt_boxes)


def schedule(window: int = 4, parts: tuple[str, ...] = ()) -> DynamicSchedule:
    constants = {"iou_topk": 2, "beta_topk": 1, "update_iter_interval": window, "initial_iou": 0.4, "initial_beta": 1.0}
    return DynamicSchedule(**constants, iou_threshold=0.5, beta=1.0, parts=parts)  # type: ignore[arg-type]


def test_proposals_that_are_not_assigned_are_compared_with_the_first_box() -> None:
    found = assignment([1, 0, 0], [0.8, 0.4, 0.3])
    assert torch.allclose(found.ious(), torch.tensor([0.8, 0.0, 0.3]))
    assert torch.equal(found.pairs()[1], GT_BOXES[[0, 0, 0]])
    sampled = assignment([1, 2, 1, 0, -1], [1.0, 1.0, 0.8, 0.4, 0.3])  # the sampler has added the ground truth
    assert torch.allclose(sampled.ious(), torch.tensor([1.0, 1.0, 0.8, 0.0, 0.3]))
    assert torch.equal(sampled.pairs()[0], torch.cat([GT_BOXES, PRIORS]))
    assert torch.equal(sampled.pairs()[1], GT_BOXES[[0, 1, 0, 0, 0]])


def test_an_image_without_objects_has_no_pairs() -> None:
    found = assignment([0, 0, 0], [0.0, 0.0, 0.0], gt_boxes=torch.zeros(0, 4))
    assert found.ious().tolist() == [0.0] * 3 and [part.shape for part in found.pairs()] == [(0, 4), (0, 4)]


def test_the_joint_rank_is_over_all_images() -> None:
    """K_I = 2 and two images: the fourth largest of all IoUs, or the second largest of each image."""
    overlaps = [torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.6, 0.1])]
    assert schedule().iou_statistics(overlaps).tolist() == pytest.approx([0.8, 0.1])
    joint = schedule(parts=(JOINT_IOUS,))
    assert joint.iou_statistics(overlaps).tolist() == pytest.approx([0.6, 0.6])
    assert joint.iou_statistics([overlaps[0][:1], overlaps[1]]).tolist() == pytest.approx([0.1, 0.1])  # 3 proposals


@pytest.mark.parametrize(
    ("errors", "mean", "upper"),
    [([0.1, 0.4, 0.2, 0.3], 0.25, 0.3), ([0.3, 0.1, 0.2], 0.2, 0.2), ([0.0, 0.0, 0.0, 0.5], 1.0, 1.0)],
)
def test_the_upper_median(errors: list[float], mean: float, upper: float) -> None:
    """In the last case it is 0, which keeps beta."""
    for parts, expected in (((), mean), ((UPPER_MEDIAN,), upper)):
        found = schedule(len(errors), parts)
        for error in errors:
            found.add(torch.tensor([0.5]), torch.tensor(error))
        found.set_from(found.empty_windows())
        assert found.beta == pytest.approx(expected)


def measure_by_loop(samples: Any, proposals: list[torch.Tensor], threshold: float) -> tuple[list[float], list[float]]:
    """All IoUs and all errors of a batch, proposal by proposal."""
    ious, errors = [], []
    for sample, own in zip(samples, proposals, strict=True):
        boxes = sample.gt_instances.bboxes.tolist()
        for proposal in [*boxes, *own.tolist()]:
            overlaps = [iou(proposal, box) for box in boxes]
            best = max(range(len(boxes)), key=overlaps.__getitem__)
            chosen = best if overlaps[best] >= threshold else 0
            ious.append(overlaps[chosen])
            shifts = []
            for axis, deviation in ((0, 0.1), (1, 0.1)):
                center, other = ((box[axis] + box[axis + 2]) / 2 for box in (proposal, boxes[chosen]))
                shifts.append(abs(other - center) / (proposal[axis + 2] - proposal[axis]) / deviation)
            errors.append(sum(shifts) / 2)
    return ious, errors


def iou(one: list[float], other: list[float]) -> float:
    sides = [min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def test_the_head_measures_all_proposals_of_the_group() -> None:
    head = make("dynamic_rcnn.DynamicRoIHead", statistic="author", iou_topk=25)
    assert head.current_thresholds() == {"T": 0.4, "beta": 1.0}  # the assigner's own is 0.5
    windows: tuple[list[float], list[float]] = ([], [])
    for iteration in range(3):
        features, proposed, samples = batch(iteration, (3, 2))
        proposals = [each.bboxes.clone() for each in proposed]
        seed_all(0, "iteration", iteration)
        head.loss(features, proposed, samples)
        ious, errors = measure_by_loop(samples, proposals, 0.4)
        expected = sorted(ious)[-2 * 25], sorted(errors)[2 * CONSTANTS["beta_topk"] - 1]
        assert head.statistics.ious.tolist() == pytest.approx([expected[0]] * 2, abs=1e-5)
        assert float(head.statistics.regression_error) == pytest.approx(expected[1], abs=1e-4)
        for window, value in zip(windows, expected, strict=True):
            window.append(value)
    expected_t = max(0.4, sum(windows[0]) / 3)
    assert head.current_thresholds()["T"] == pytest.approx(expected_t, abs=1e-5)


def test_each_part_can_be_chosen_alone() -> None:
    """Only the chosen part differs from mmdet's statistics in the first iteration."""
    found = {}
    for parts in ((), *((part,) for part in PARTS)):
        head = make("dynamic_rcnn.DynamicRoIHead", statistic=list(parts), iou_topk=10)
        start = head.current_thresholds()["T"]
        features, proposed, samples = batch(0, (3, 2), proposals=8)
        seed_all(0, "iteration", 0)
        head.loss(features, proposed, samples)
        statistics = head.statistics
        found[parts] = (start, *statistics.ious.tolist(), float(statistics.regression_error), head.schedules[0].parts)
    assert len(set(found.values())) == len(found)
    assert found[()][0] == 0.5 and found[("floor_at_start",)][0] == 0.4
    t, error = slice(1, 3), 3
    assert found[("joint_ious",)][1] == found[("joint_ious",)][2] and found[("joint_ious",)][t] != found[()][t]
    assert found[("first_box",)][t] != found[()][t] and found[("first_box",)][error] == found[()][error]
    assert found[("all_proposals",)][error] <= found[()][error] and found[("all_proposals",)][t] == found[()][t]


def test_the_names_of_the_statistic() -> None:
    assert statistic_parts("mmdet") == statistic_parts([]) == frozenset()
    assert statistic_parts("author") == statistic_parts(list(PARTS)) == frozenset(PARTS)
    for wrong in ("autor", ["joint"], 3, ["joint_ious", "joint_ious"]):
        with pytest.raises(ValueError, match=r"statistic=.*: must be mmdet, author, or a list of some of joint_ious, "):
            statistic_parts(wrong)

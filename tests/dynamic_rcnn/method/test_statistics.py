"""What an iteration measured, as a row of train.jsonl has it."""

from __future__ import annotations

import pytest
import torch

from dynamic_rcnn.method import DynamicSchedule
from dynamic_rcnn.method.statistics import IterationStatistics
from dynamic_rcnn.run.train_log import RANKS
from tests.dynamic_rcnn.method.test_roi_head import batch, make


def test_logged_statistics():
    head = make("dynamic_rcnn.DynamicRoIHead")
    head.loss(*batch(0, (2, 3)))
    logged = head.statistics.summary()
    assert logged["iou_statistic"] == pytest.approx(float(head.statistics.ious.mean()), abs=1e-7)
    assert logged["positives"] == len(head.statistics.targets) / 2
    overlaps = head.statistics.max_overlaps
    assert logged["proposals_50"] == float((overlaps >= 0.5).sum()) / 2 >= logged["proposals_70"] > 0
    assert head.current_thresholds() == {"T": 0.5, "beta": 1.0}


def test_histograms_count_every_proposal_and_every_target():
    overlaps = torch.tensor([0.0, 0.049, 0.05, 0.5, 0.999, 1.0, 1.0000001])
    targets = torch.tensor([[0.0, -0.1, 9.0, 9.0], [0.25, -2.95, 9.0, 9.0], [3.0, -7.0, 9.0, 9.0]])
    logged = IterationStatistics(torch.ones(1), None, [overlaps], targets).summary()
    assert {at: count for at, count in enumerate(logged["iou_histogram"]) if count} == {0: 2, 1: 1, 10: 1, 19: 3}
    assert {at: count for at, count in enumerate(logged["target_histogram"]) if count} == {0: 1, 1: 1, 2: 1, 29: 3}
    assert (len(logged["iou_histogram"]), len(logged["target_histogram"])) == (20, 30)


def test_statistics_by_rank_are_those_of_heads_with_these_constants():
    """iou_by_rank and error_by_rank hold what a head with another K_I and K_beta measures on the same batch."""
    plain = make("dynamic_rcnn.DynamicRoIHead")
    plain.loss(*batch(0, (2, 3)))
    logged = plain.statistics.summary()
    for rank in (1, 3, 10, 300):
        ranks = {"iou_topk": rank, "beta_topk": rank}
        others = {"update_iter_interval": 5, "initial_iou": 0.4, "initial_beta": 1.0, "iou_threshold": 0.5, "beta": 1.0}
        schedule = DynamicSchedule(**ranks, **others)
        ious = schedule.iou_statistics(plain.statistics.overlaps)
        assert logged["iou_by_rank"][RANKS.index(rank)] == pytest.approx(float(ious.mean()), abs=1e-5)
        error = schedule.regression_error(plain.statistics.targets, 2)
        assert logged["error_by_rank"][RANKS.index(rank)] == pytest.approx(float(error), abs=1e-5)
    assert len(logged["iou_by_rank"]) == len(logged["error_by_rank"]) == len(RANKS)


def test_statistics_by_rank_without_proposals_or_positives():
    logged = IterationStatistics(torch.zeros(2), None, [torch.ones(1), torch.zeros(0)], torch.zeros(0, 4)).summary()
    assert logged["iou_by_rank"] == [0.5] * len(RANKS) and logged["error_by_rank"] is None

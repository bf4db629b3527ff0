"""The schedule of T and beta: cases computed by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dynamic_rcnn.method.schedule import DynamicSchedule, update_together

DEFAULTS: dict[str, Any] = {
    "iou_topk": 2,
    "beta_topk": 1,
    "update_iter_interval": 3,
    "initial_iou": 0.4,
    "initial_beta": 1.0,
    "iou_threshold": 0.5,
    "beta": 1.0,
}


def schedule(**changes: Any) -> DynamicSchedule:
    return DynamicSchedule(**{**DEFAULTS, **changes})


def step(subject: DynamicSchedule, ious: torch.Tensor, error: torch.Tensor | None) -> bool:
    """One iteration of a single group. Returns whether T and beta were set."""
    subject.add(ious, error)
    return update_together([subject], all_reduce=False)


def feed(subject: DynamicSchedule, ious: list[list[float]], targets: list[float | None]) -> list[bool]:
    """Feed iterations; each has its per-image IoU statistics and one target statistic."""
    return [
        step(subject, torch.tensor(row), None if target is None else torch.tensor(target))
        for row, target in zip(ious, targets, strict=True)
    ]


def test_iou_statistic_is_the_kth_largest():
    overlaps = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.5])
    assert schedule(iou_topk=1).iou_statistic(overlaps) == overlaps[1]
    assert schedule(iou_topk=2).iou_statistic(overlaps) == overlaps[3]
    assert schedule(iou_topk=5).iou_statistic(overlaps) == overlaps[0]


def test_iou_statistic_of_fewer_proposals_than_k_is_the_smallest():
    assert schedule(iou_topk=75).iou_statistic(torch.tensor([0.6, 0.2])) == torch.tensor(0.2)


def test_iou_statistic_without_proposals_is_zero():
    assert schedule().iou_statistic(torch.zeros(0)) == 0


def test_regression_error_is_the_kth_smallest_mean_of_dx_and_dy():
    # mean |dx|, |dy|: 0.25, 0.75, 0.5; dw and dh do not count
    targets = torch.tensor([[0.5, 0.0, 9.0, 9.0], [-1.0, 0.5, 0.0, 0.0], [0.25, -0.75, 5.0, 5.0]])
    assert schedule(beta_topk=1).regression_error(targets, num_images=1) == 0.25
    assert schedule(beta_topk=1).regression_error(targets, num_images=2) == 0.5
    assert schedule(beta_topk=1).regression_error(targets, num_images=3) == 0.75
    assert schedule(beta_topk=10).regression_error(targets, num_images=2) == 0.75  # fewer positives than that


def test_regression_error_without_positives_is_none():
    assert schedule().regression_error(torch.zeros(0, 4), num_images=2) is None


def test_updates_at_the_end_of_each_window_and_not_before():
    subject = schedule()
    moved = feed(subject, [[0.5, 0.75], [0.5, 0.5], [0.75, 0.75]], [0.5, 0.125, 0.25])
    assert moved == [False, False, True]
    # T: mean of 0.625, 0.5, 0.75; beta: median of 0.5, 0.125, 0.25
    assert subject.iou_threshold == 0.625
    assert subject.beta == 0.25


def test_windows_do_not_overlap():
    subject = schedule(update_iter_interval=1)
    feed(subject, [[0.75]], [0.5])
    feed(subject, [[0.5]], [0.25])
    assert (subject.iou_threshold, subject.beta) == (0.5, 0.25)


def test_a_window_that_is_not_full_changes_nothing():
    subject = schedule()
    feed(subject, [[0.9], [0.9]], [0.1, 0.1])
    assert (subject.iou_threshold, subject.beta) == (0.5, 1.0)


def test_floor_of_the_threshold_and_cap_of_beta():
    subject = schedule()
    feed(subject, [[0.1], [0.2], [0.3]], [2.0, 3.0, 4.0])
    assert (subject.iou_threshold, subject.beta) == (0.4, 1.0)


def test_threshold_may_fall_again():
    subject = schedule(update_iter_interval=1)
    feed(subject, [[0.75], [0.5]], [0.5, 0.5])
    assert subject.iou_threshold == 0.5


def test_iterations_without_positives_are_left_out_of_the_median():
    subject = schedule()
    feed(subject, [[0.5], [0.5], [0.5]], [None, 0.25, 0.75])
    assert subject.beta == 0.5


def test_a_window_without_any_positive_keeps_beta():
    subject = schedule(update_iter_interval=1)
    feed(subject, [[0.5], [0.5]], [0.25, None])
    assert subject.beta == 0.25


def test_a_zero_median_keeps_beta():
    subject = schedule()
    feed(subject, [[0.5]] * 3, [0.25, 0.25, 0.25])
    feed(subject, [[0.5]] * 3, [0.0, 0.0, 0.5])
    assert subject.beta == 0.25


def test_a_median_just_above_zero_counts():
    subject = schedule(update_iter_interval=1)
    feed(subject, [[0.5]], [2e-15])
    assert 0 < subject.beta < 3e-15


def test_state_round_trip_in_the_middle_of_a_window():
    torch.manual_seed(0)
    ious, targets = torch.rand(6, 2), torch.rand(6)
    whole, first = schedule(), schedule()
    for i in range(6):
        step(whole, ious[i], targets[i])
    for i in range(4):
        step(first, ious[i], targets[i] if i != 3 else None)
    second = schedule()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert second.state_dict()["target_window"][-1] == []
    restored = schedule()
    for i in range(5):
        step(restored, ious[i], targets[i])
    resumed = schedule()
    resumed.load_state_dict(restored.state_dict())
    assert step(resumed, ious[5], targets[5])
    assert (resumed.iou_threshold, resumed.beta) == (whole.iou_threshold, whole.beta)


@pytest.mark.parametrize("name", ["iou_topk", "beta_topk", "update_iter_interval"])
@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_counts_must_be_positive_integers(name: str, value: Any):
    with pytest.raises(ValueError, match=rf"dynamic_rcnn.{name} must be an integer of at least 1"):
        schedule(**{name: value})


# Group 0 sees IoU 0.5 and 0.5, group 1 sees 0.75 and 1.0; group 1 has no positives in the first iteration.
IOUS = [[[0.5], [0.5]], [[0.75], [1.0]]]
ERRORS: list[list[float | None]] = [[0.25, 0.5], [None, 0.25]]
OWN = [(0.5, 0.375), (0.875, 0.25)]
AVERAGED = [(0.6875, 0.3125)] * 2  # T: mean of 0.625, 0.75; beta: median of 0.25 (group 1 had none) and 0.375


def train_groups(groups: list[int], all_reduce: bool) -> list[tuple[float, float]]:
    """(T, beta) of these groups after two iterations."""
    subjects = [schedule(update_iter_interval=2) for _ in groups]
    for iteration in range(2):
        for subject, group in zip(subjects, groups, strict=True):
            error = ERRORS[group][iteration]
            subject.add(torch.tensor(IOUS[group][iteration]), None if error is None else torch.tensor(error))
        assert update_together(subjects, all_reduce) == (iteration == 1)
    return [(subject.iou_threshold, subject.beta) for subject in subjects]


@pytest.mark.parametrize("all_reduce", [False, True])
def test_two_groups_of_one_process(all_reduce: bool):
    assert train_groups([0, 1], all_reduce) == (AVERAGED if all_reduce else OWN)


def _two_processes(rank: int, port_file: str, all_reduce: bool, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    results[rank] = train_groups([rank], all_reduce)
    dist.barrier()  # a process that ends at once would cut off the other while it connects
    dist.destroy_process_group()


@pytest.mark.parametrize("all_reduce", [False, True])
def test_two_processes(tmp_path, all_reduce: bool):
    results = mp.Manager().dict()
    mp.spawn(_two_processes, args=(str(tmp_path / "rendezvous"), all_reduce, results), nprocs=2)
    assert results[0] + results[1] == (AVERAGED if all_reduce else OWN)


def test_nothing_is_transferred_between_updates(monkeypatch):
    """No iteration but the window's last may look at a value, which on a GPU would wait for it."""
    looked = []
    for name in ("item", "tolist", "cpu", "__float__", "__bool__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda self, *a, _o=original, _n=name: looked.append(_n) or _o(self, *a)
        )
    subject = schedule()
    for _ in range(2):
        iou = subject.iou_statistic(torch.rand(10))
        step(subject, iou.reshape(1), subject.regression_error(torch.rand(5, 4), 1))
    assert looked == []
    step(subject, torch.rand(1), torch.rand(()))
    assert looked == ["tolist", "tolist"]
    assert not math.isnan(subject.iou_threshold)

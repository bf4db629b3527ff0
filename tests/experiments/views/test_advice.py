"""What action=advise proposes, from made-up statistics by rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynamic_rcnn.run.train_log import RANKS
from experiments.views import advice

METHOD = {"initial_iou": 0.4, "initial_beta": 1.0}


def rows(count: int = 100, every: int = 10, rates: tuple[float, float] = (0.02, 0.02), zeros: int = 0) -> list[Any]:
    """A log in which the IoU of rank K rises to 1 - 0.1 ln K, and the error of rank K falls to K / 100.

    rates: learning rate at first and in the last row. zeros: the number of ranks whose error is 0.
    """
    found = []
    for index in range(count):
        share = (index + 1) / count
        errors = [0.0 if at < zeros else rank / 100 / share for at, rank in enumerate(RANKS)]
        ious = [share * (1 - 0.1 * np.log(rank)) for rank in RANKS]
        rate = rates[index == count - 1]
        found.append({"iteration": every * (index + 1), "lr": rate, "iou_by_rank": ious, "error_by_rank": errors})
    return found


def test_points_are_the_start_a_third_and_the_end() -> None:
    found = advice.points(rows(count=100), "iou_by_rank")[:, 0]  # rank 1: the share of iterations so far
    assert found == pytest.approx([np.mean(range(1, 11)) / 100, np.mean(range(31, 41)) / 100, 0.955])
    few = advice.points(rows(count=3), "iou_by_rank")[:, 0]
    assert few == pytest.approx([1 / 3, 1 / 3, 1.0])


def test_ranks_are_interpolated_over_their_logarithm() -> None:
    found = advice.points(rows(count=1), "iou_by_rank")
    for rank in (1, 7, 75, 123):
        assert advice.at_rank(found, rank) == pytest.approx([1 - 0.1 * np.log(rank)] * 3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rows(50), (0.5379, 0.25)),  # 500 iterations: the published T
        (rows(25), (0.5053, 0.25)),  # 250: between those of 200 and 300, over the logarithm
        (rows(9000), (0.597, 0.25)),
        (rows(50, rates=(0.02, 0.002)), (0.597, 0.16)),  # the learning rate has fallen
    ],
)
def test_what_t_and_beta_should_end_at(given: Any, expected: tuple[float, float]) -> None:
    assert advice.targets(given) == pytest.approx(expected, abs=1e-4)


def test_the_proposed_constants_are_nearest_to_the_targets() -> None:
    """At the end T = 0.955 (1 - 0.1 ln K) is 0.597 at K_I 42.5, and beta = K / 95.5 is 0.16 at K_beta 15."""
    given = rows(rates=(0.02, 0.002))
    assert advice.propose_iou_topk(given) in (42, 43)
    assert advice.propose_beta_topk(given) == 15
    assert advice.propose_beta_topk(rows()) in (23, 24, 25)  # for 0.25


def test_ranks_whose_errors_are_those_of_the_objects_boxes_are_not_proposed() -> None:
    """With an error of 0 beta stays at its upper bound."""
    given = rows(rates=(0.02, 0.002), zeros=9)  # up to rank 20
    proposed = advice.propose_beta_topk(given)
    assert RANKS[8] == 20 and proposed == 30  # between 20 and 30 it is not known
    lines = advice.table("K_beta", advice.points(given, "error_by_rank"), proposed, METHOD)
    assert [line.split()[0] for line in lines[1:]] == ["15", "20", "30", "40", "60", "75"]
    (held,) = [line for line in lines if line.split()[0] == "20"]
    assert held.split()[1:4] == ["1.000"] * 3 and held.endswith("held: errors of 0, of the objects' own boxes")
    assert "<- proposed" in next(line for line in lines if line.split()[0] == "30")


def test_t_and_beta_are_bounded_as_in_training() -> None:
    lines = advice.table("K_I", advice.points(rows(), "iou_by_rank"), 75, METHOD)
    assert next(line for line in lines if line.split()[0] == "75").split()[1] == "0.400"
    lines = advice.table("K_beta", advice.points(rows(), "error_by_rank"), 30, METHOD)
    assert next(line for line in lines if line.split()[0] == "30").split()[1] == "1.000"

"""The trends of Figure 5 in curves that follow them, that do not, and that have not come so far."""

from __future__ import annotations

from typing import Any

import pytest

from dynamic_rcnn.run.published_trends import Point, in_words, trends

EARLY = {100: Point(0.4208, 0.9), 300: Point(0.51, 0.5), 350: Point(0.52, 0.4)}


def method(iou_topk: int = 75, beta_topk: int = 10, **switches: bool) -> dict[str, Any]:
    return {"label_assignment": True, "smooth_l1": True, **switches, "iou_topk": iou_topk, "beta_topk": beta_topk}


def test_a_run_that_follows_the_figure() -> None:
    found = trends(EARLY, Point(0.61, 0.15), method())
    assert [trend.holds for trend in found] == [True] * 5
    assert in_words(found).startswith(
        "Figure 5: T at 350 0.520, about 0.5 in the figure: holds; T rises slowly after 350"
    )


@pytest.mark.parametrize(
    ("last", "settings", "wrong"),
    [
        (Point(0.50, 0.15), method(), {"T rises", "final T"}),
        (Point(0.64, 0.15), method(), {"final T"}),
        (Point(0.64, 0.15), method(64), set()),
        (Point(0.56, 0.15), method(100), set()),
        (Point(0.60, 0.21), method(), {"final beta"}),
        (Point(0.60, 0.21), method(75, 15), set()),
        (Point(0.60, 0.16), method(75, 8), {"final beta"}),
        (Point(0.50, 0.15), method(label_assignment=False), set()),
        (Point(0.60, 1.0), method(smooth_l1=False), set()),
        (Point(0.90, 0.90), method(80, 11), set()),
    ],
)
def test_each_setting_has_its_own_end_points(last: Point, settings: dict[str, Any], wrong: set[str]) -> None:
    failed = [trend.text for trend in trends(EARLY, last, settings) if trend.holds is False]
    assert {" ".join(text.split()[:2]) for text in failed} == wrong


def test_what_is_not_known_yet_is_said_so() -> None:
    found = trends({100: EARLY[100]}, None, method())
    assert {trend.holds for trend in found} == {None} and in_words(found).count("not known yet") == 5
    stuck = trends({300: Point(0.5, 1.0), 350: Point(0.5, 1.0)}, None, method())
    assert [trend.holds for trend in stuck] == [True, None, None, False, None]


def test_a_static_run_has_none() -> None:
    assert trends(EARLY, None, method(label_assignment=False, smooth_l1=False)) == [] and in_words([]) == ""

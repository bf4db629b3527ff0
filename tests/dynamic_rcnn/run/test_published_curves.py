"""T at the published iterations and the trends of Figure 5, from curves that are whole, short, torn or missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.published_curves import (
    PUBLISHED,
    Point,
    Trajectory,
    applies,
    read_early,
    trajectory,
    trends,
    trends_text,
)


def read_trajectory(run: Path) -> Trajectory:
    return trajectory(read_early(run))


def write(run: Path, values: dict[int, float], end: str = "") -> Path:
    rows = [{"iteration": at, "T": value, "beta": 1.0} for at, value in {50: 0.5, **values}.items()]
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return run


def test_the_published_values_are_on_their_own_trajectory(tmp_path: Path) -> None:
    found = read_trajectory(write(tmp_path, {**PUBLISHED, 550: 0.9}))
    assert found.values == PUBLISHED and found.off == {}
    assert found.text.startswith("on the published trajectory: T 0.4208 at 100 (0.4208), ")


def test_a_run_that_stays_at_the_static_threshold_is_off_at_once(tmp_path: Path) -> None:
    found = read_trajectory(write(tmp_path, {100: 0.5, 200: 0.5}))
    assert found.off == {100: 0.5}
    assert found.text == "OFF the published trajectory at 100: T 0.5000 at 100 (0.4208), 0.5000 at 200 (0.4913)"


@pytest.mark.parametrize("end", ["", '{"iteration": 300, "T":', "[]\n", "\x00\n"])
def test_a_run_that_has_just_begun(tmp_path: Path, end: str) -> None:
    found = read_trajectory(write(tmp_path, {100: 0.44, 200: 0.48}, end))
    assert found.text.startswith("so far on the published trajectory: T 0.4400 at 100") and len(found.values) == 2


def test_t_is_not_known_before_iteration_100(tmp_path: Path) -> None:
    message = "T not known yet at iteration 100"
    assert read_trajectory(tmp_path).text == message
    assert read_trajectory(write(tmp_path, {})).text == message


def test_only_runs_with_the_published_setting_are_compared() -> None:
    method = {"label_assignment": True, "iou_topk": 75, "update_iter_interval": 100, "initial_iou": 0.4}

    def config(depth: int = 50, **changes: object) -> dict:
        return {"model": {"backbone": {"depth": depth}, "train_cfg": {"rcnn": {"dynamic_rcnn": {**method, **changes}}}}}

    assert applies("coco", config())
    assert not applies("shapes", config()) and not applies("coco", config(depth=101))
    assert not applies("coco", config(label_assignment=False)) and not applies("coco", config(iou_topk=64))
    assert applies("coco", config(statistic="mmdet")) and not applies("coco", config(statistic="author"))


EARLY = {100: Point(0.4208, 0.9), 300: Point(0.51, 0.5), 350: Point(0.52, 0.4)}


def method(iou_topk: int = 75, beta_topk: int = 10, **switches: bool) -> dict[str, Any]:
    return {"label_assignment": True, "smooth_l1": True, **switches, "iou_topk": iou_topk, "beta_topk": beta_topk}


def test_a_run_that_follows_the_figure() -> None:
    found = trends(EARLY, Point(0.61, 0.15), method())
    assert [trend.holds for trend in found] == [True] * 5
    assert trends_text(found).startswith(
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


def test_trends_that_are_not_known_yet_are_marked() -> None:
    found = trends({100: EARLY[100]}, None, method())
    assert {trend.holds for trend in found} == {None} and trends_text(found).count("not known yet") == 5
    stuck = trends({300: Point(0.5, 1.0), 350: Point(0.5, 1.0)}, None, method())
    assert [trend.holds for trend in stuck] == [True, None, None, False, None]


def test_a_static_run_has_no_trends() -> None:
    assert trends(EARLY, None, method(label_assignment=False, smooth_l1=False)) == [] and trends_text([]) == ""

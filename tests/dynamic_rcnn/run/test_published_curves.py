"""T at the published iterations, from curves that are whole, short, torn or missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynamic_rcnn.run.published_curves import PUBLISHED, Trajectory, applies, read_early, trajectory


def read_trajectory(run: Path) -> Trajectory:
    return trajectory(read_early(run))


def write(run: Path, values: dict[int, float], end: str = "") -> Path:
    rows = [{"iteration": at, "T": value, "beta": 1.0} for at, value in {50: 0.5, **values}.items()]
    (run / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return run


def test_the_published_values_are_on_their_own_trajectory(tmp_path: Path) -> None:
    found = read_trajectory(write(tmp_path, {**PUBLISHED, 550: 0.9}))
    assert found.found == PUBLISHED and found.off == {}
    assert found.text.startswith("on the published trajectory: T 0.4208 at 100 (0.4208), ")


def test_a_run_that_stays_at_the_static_threshold_is_off_at_once(tmp_path: Path) -> None:
    found = read_trajectory(write(tmp_path, {100: 0.5, 200: 0.5}))
    assert found.off == {100: 0.5}
    assert found.text == "OFF the published trajectory at 100: T 0.5000 at 100 (0.4208), 0.5000 at 200 (0.4913)"


@pytest.mark.parametrize("end", ["", '{"iteration": 300, "T":', "[]\n", "\x00\n"])
def test_a_run_that_has_just_begun(tmp_path: Path, end: str) -> None:
    found = read_trajectory(write(tmp_path, {100: 0.44, 200: 0.48}, end))
    assert found.text.startswith("so far on the published trajectory: T 0.4400 at 100") and len(found.found) == 2


def test_nothing_to_say_yet(tmp_path: Path) -> None:
    said = "T not known yet at iteration 100"
    assert read_trajectory(tmp_path).text == said
    assert read_trajectory(write(tmp_path, {})).text == said


def test_it_is_said_of_the_published_setting_alone() -> None:
    method = {"label_assignment": True, "iou_topk": 75, "update_iter_interval": 100, "initial_iou": 0.4}

    def config(depth: int = 50, **changes: object) -> dict:
        return {"model": {"backbone": {"depth": depth}, "train_cfg": {"rcnn": {"dynamic_rcnn": {**method, **changes}}}}}

    assert applies("coco", config())
    assert not applies("shapes", config()) and not applies("coco", config(depth=101))
    assert not applies("coco", config(label_assignment=False)) and not applies("coco", config(iou_topk=64))

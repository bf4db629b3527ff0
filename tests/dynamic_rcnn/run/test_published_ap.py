"""AP by epoch against the published log, from evaluations that are whole, short, torn or missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.run.published_ap import PUBLISHED, applies, read_epochs

ITERATIONS = 87_960  # 12 epochs of 7,330


def write(run: Path, values: dict[int, float | None], end: str = "") -> Path:
    rows = [{"iteration": at * 7330, "AP": ap} for at, ap in values.items()]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return run


def test_the_published_values_are_on_their_own_log(tmp_path: Path) -> None:
    *first, last = PUBLISHED.items()
    found = read_epochs(write(tmp_path, dict(first)), ITERATIONS, last[1])
    assert found.values == PUBLISHED and len(found.values) == 12 and found.off == {}
    assert found.text.startswith("AP on the published log, by epoch: 21.6 after 1 (21.6), 25.9 after 2 (25.9), ")
    assert found.text.endswith(", 38.9 after 12 (38.9)")


def test_tolerances_are_wider_before_the_learning_rate_falls(tmp_path: Path) -> None:
    found = read_epochs(write(tmp_path, {1: 0.19, 8: 0.28, 9: 0.389}), ITERATIONS, None)
    assert found.off == {9: 0.389}
    assert found.text == (
        "AP OFF the published log after epoch 9: 19.0 after 1 (21.6), 28.0 after 8 (30.9), 38.9 after 9 (37.8)"
    )


@pytest.mark.parametrize("end", ["", '{"iteration": 14660, "AP":', "[]\n", '{"iteration": 14661, "AP": 0.1}\n'])
def test_a_run_in_its_second_epoch(tmp_path: Path, end: str) -> None:
    found = read_epochs(write(tmp_path, {1: 0.22}, end), ITERATIONS, None)
    assert found.text == "AP so far on the published log, by epoch: 22.0 after 1 (21.6)"


def test_nothing_is_known_without_evaluations(tmp_path: Path) -> None:
    assert read_epochs(tmp_path, ITERATIONS, None).text == "AP not known yet after epoch 1"
    assert read_epochs(write(tmp_path, {1: None}, "broken\n\n"), ITERATIONS, None).values == {}


def test_only_runs_with_the_published_setting_are_compared() -> None:
    method = {"label_assignment": True, "iou_topk": 75, "update_iter_interval": 100, "initial_iou": 0.4}
    method |= {"smooth_l1": True, "beta_topk": 10, "initial_beta": 1.0}

    def config(epochs: int | None = 12, **changes: Any) -> dict[str, Any]:
        model = {"backbone": {"depth": 50}, "train_cfg": {"rcnn": {"dynamic_rcnn": {**method, **changes}}}}
        return {"model": model, "train": {"max_epochs": epochs}}

    assert applies("coco", config())
    assert not applies("shapes", config()) and not applies("coco", config(24)) and not applies("coco", config(None))
    assert not applies("coco", config(smooth_l1=False)) and not applies("coco", config(label_assignment=False))
    assert not applies("coco", config(beta_topk=15))

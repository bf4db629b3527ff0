"""The file of a run's detections: its bytes, and the errors for damaged ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.detections import read_detections, write_detections
from tests.dynamic_rcnn.metrics.test_ap import detection, loaded, random_case


def test_detections_keep_float32_in_few_digits_and_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    values = np.random.RandomState(0).uniform(0, 300, 4).astype(np.float32)
    made = {"image_id": np.int64(3), "category_id": 7, "bbox": values, "score": np.float32(0.1)}
    write_detections(one, [made])
    write_detections(two, [made])
    assert one.read_bytes() == two.read_bytes()
    (found,) = read_detections(one)
    assert found["score"] == 0.1
    assert found["image_id"] == 3
    assert np.array(found["bbox"], dtype=np.float32).tolist() == values.tolist()
    assert max(len(repr(value)) for value in found["bbox"]) <= 10
    write_detections(one, [])
    assert read_detections(one) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json.gz", "b.json.gz"]


NOT_FINITE = [
    ({"score": float("nan")}, "image 7: score is nan; scores and boxes must be finite numbers"),
    ({"bbox": [0.0, 1.0, float("inf"), 2.0]}, "image 7: bbox is [0.0, 1.0, inf, 2.0]; scores and boxes must be finite"),
]


@pytest.mark.parametrize(("changes", "said"), NOT_FINITE)
def test_scores_and_boxes_that_are_not_finite_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """By the writer, which writes nothing; by the reader, which names the file; by the evaluation of values."""
    path = tmp_path / "detections.json.gz"
    rows = [detection(1, 1, [0, 0, 1, 1], 0.5), {**detection(7, 1, [0, 0, 1, 1], 0.5), **changes}]
    with pytest.raises(UserError) as caught:
        write_detections(path, rows)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    with pytest.raises(UserError) as caught:
        read_detections(path)
    assert str(caught.value).startswith(f"{path}: {said}")
    with pytest.raises(UserError) as caught:
        evaluate(loaded(random_case(0)[0]), rows)
    assert str(caught.value).startswith(f"detections: {said}")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detections.json.gz"
    write_detections(path, [])
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_detections(path, [detection(0, 1, [0, 0, 1, 1], 0.5)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"[]",
        lambda data: data[:20] + bytes([data[20] ^ 255]) + data[21:],
        lambda data: gzip.compress(b'[{"image_id": 1'),
        lambda data: gzip.compress(b"\xff\xfe"),
    ],
)
def test_corrupt_files_are_refused(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "detections.json.gz"
    write_detections(path, random_case(0)[1])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        UserError, match=r"gz: (broken or cut off|not valid JSON \(line 1: .*\)); move the run's directory"
    ):
        read_detections(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1],
        [{"image_id": 1}],
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}],
        [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, "4"], "score": 1}],
        [{"image_id": True, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}],
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "detections.json.gz"
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(UserError, match=r"not detections; it must be a list of image_id, category_id, bbox"):
        read_detections(path)


def test_ids_that_pandas_cannot_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.json.gz"
    write_detections(path, [detection(2**63, 1, [0, 0, 1, 1], 0.5)])
    with pytest.raises(UserError, match=r"detections\.json\.gz: not valid JSON \(an integer of 19 digits\)"):
        read_detections(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json\.gz: no such file"):
        read_detections(tmp_path / "none.json.gz")
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        evaluate(tmp_path / "none.json", [])

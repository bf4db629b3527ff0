"""The records as data frames."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from analysis.frames import load_curves, load_detections, load_runs
from dynamic_rcnn.errors import UserError
from tests.analysis.synthetic import ablation


def test_runs_curves_and_detections(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    found = [{"image_id": 7, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]
    path = folder.path("both", 1)
    (tmp_path / path / "detections.json.gz").write_bytes(gzip.compress(json.dumps(found).encode()))
    runs, curves, detections = load_runs(tmp_path), load_curves(tmp_path), load_detections(tmp_path)
    assert len(runs) == 13 and runs["path"].is_unique
    means = runs.groupby("arm")["AP"].mean()
    assert means["baseline"] == pytest.approx(0.41) and means["both"] == pytest.approx(0.51)
    grids = runs.set_index("path")["grids"]
    assert grids[path] == ["shapes-ablation-0123456789"] and list(
        grids[runs.loc[runs["arm"] == "pretrain", "path"]]
    ) == [[]]
    assert len(curves) == 13 * 10 and set(curves.loc[curves["arm"] == "baseline", "T"]) == {0.5}
    assert detections.to_dict("records") == [
        {"path": path, "dataset": "shapes", "arm": "both", "seed": 1, "image_id": 7, "category_id": 2}
        | {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "score": 0.5}
    ]


def test_unreadable_files_are_warnings(tmp_path: Path) -> None:
    folder = ablation(tmp_path)
    (tmp_path / folder.path("both", 1) / "detections.json.gz").write_bytes(b"no")
    (tmp_path / folder.path("both", 2) / "metrics.json").write_text("{")
    with pytest.warns(UserWarning) as expected:
        assert len(load_detections(tmp_path)) == 0
    text = "\n".join(str(each.message) for each in expected)
    assert "seed1-" in text and "broken or cut off" in text and "metrics.json" in text
    with pytest.raises(UserError, match=r"no such folder"):
        load_runs(tmp_path / "none")


def test_a_folder_without_detections_has_the_columns(tmp_path: Path) -> None:
    ablation(tmp_path)
    for run in tmp_path.glob("*/*/*/detections.json.gz"):
        run.unlink()
    frame = load_detections(tmp_path)
    assert frame.empty and list(frame.columns)[:4] == ["path", "dataset", "arm", "seed"]

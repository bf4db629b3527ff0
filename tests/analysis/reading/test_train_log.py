"""train.jsonl as columns, and its histograms early and late."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from analysis.sections import curves
from analysis.sections.grid_figures import figures
from analysis.stats.comparison import Comparison
from tests.analysis.synthetic import RunsFolder, ablation


def test_histograms_of_the_first_and_the_last_tenth_of_training(tmp_path: Path) -> None:
    """Ten logged iterations: the first has 12, 1, ... 1, 3 targets, the last 12, 10, ... 10, 3."""
    ablation(tmp_path)
    records = collect(tmp_path)
    path = RunsFolder(tmp_path).path("dla", 0)
    found = records.histograms[records.histograms["path"] == path].set_index(["kind", "when"])["counts"]
    assert found["target", "early"] == [12, *[1] * 28, 3] and found["target", "late"] == [12, *[10] * 28, 3]
    assert found["iou", "early"] == found["iou", "late"] == [100, *[10] * 18, 5]

    comparison = Comparison(records, records.grids[0])
    bands = curves.distributions(records, comparison, ["dla", "both"], "target", "early")
    assert list(bands) == ["dla", "both"] and bands["dla"].x[:2] == pytest.approx([0.05, 0.15])
    assert bands["dla"].middle[:2] == pytest.approx([12 / 43, 1 / 43]) and sum(bands["dla"].middle) == pytest.approx(1)


def test_records_without_histograms_are_read(tmp_path: Path) -> None:
    ablation(tmp_path)
    for log in tmp_path.glob("*/*/*/train.jsonl"):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        kept = [{key: value for key, value in row.items() if "histogram" not in key} for row in rows]
        log.write_text("".join(json.dumps(row) + "\n" for row in kept))
    records = collect(tmp_path)
    assert len(records.histograms) == 0 and records.problems == []
    names = [figure.name for figure in figures(records, Comparison(records, records.grids[0]))]
    assert len(names) == 4 and not any("distributions" in name for name in names)

"""The numbers that the figures of training draw."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.reading.run_table import collect
from analysis.rendering.model import Band
from analysis.sections.curves import Runs, training_curves, training_runs
from analysis.stats.comparison import Comparison
from tests.analysis.synthetic import RunsFolder

TWO_SEEDS: Runs = {
    "baseline": [
        {"iteration": [10.0, 20.0, 30.0], "T": [0.4, 0.5, 0.6]},
        {"iteration": [10.0, 30.0], "T": [0.6, float("nan")]},
    ],
    "both": [],
}


def test_a_curve_is_the_mean_over_seeds_with_lowest_and_highest() -> None:
    found = training_curves(TWO_SEEDS, "T")
    assert found["baseline"] == Band([10.0, 20.0, 30.0], [0.5, 0.5, 0.6], [0.4, 0.5, 0.6], [0.6, 0.5, 0.6])
    assert list(found) == ["baseline", "both"] and not found["both"].x


def test_the_last_row_of_an_iteration_counts(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for seed in (1, 0):
        folder.done("both", seed, 0.3)
        folder.done("baseline", seed, 0.2)
    folder.start("both", 2, "failed")
    folder.manifest()
    log = tmp_path / folder.path("both", 0) / "train.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[3] | {"T": 0.875}]))
    records = collect(tmp_path)
    runs = training_runs(records, Comparison(records, records.grids[0]), ["both", "dla"])
    assert list(runs) == ["both", "dla"] and len(runs["both"]) == 2 and runs["dla"] == []
    assert runs["both"][0]["iteration"] == list(range(10, 101, 10))
    assert runs["both"][0]["T"][3] == 0.875 and runs["both"][1]["T"][3] != 0.875

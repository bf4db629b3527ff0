"""A folder of runs as tidy tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import locked
from tests.analysis.synthetic import RunsFolder, ablation


def test_tables_have_one_row_per_run_and_iteration(tmp_path: Path) -> None:
    ablation(tmp_path)
    records = collect(tmp_path)
    assert records.problems == []
    assert len(records.runs) == 13 and len(records.curves) == 130 and len(records.thresholds) == 130
    rows = records.finished_runs(records.grids[0])
    assert list(rows["arm"]) == ["baseline"] * 3 + ["dla"] * 3 + ["dsl"] * 3 + ["both"] * 3
    assert list(rows["AP"][:3]) == [0.40, 0.41, 0.42]
    assert rows["ARs"].isna().all()
    assert list(records.start_runs(records.grids[0])["arm"]) == ["pretrain"]


def test_states_come_from_disk(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.start("dla", 0, "failed", cause="NaN")
    folder.start("dsl", 0, "running")  # says running, but nobody holds its lock
    held = folder.start("both", 0, "running")
    folder.ask("both", 1)
    folder.manifest()
    with locked(held):
        records = collect(tmp_path)
    rows = records.runs_of(records.grids[0])
    assert list(rows["state"]) == ["done", "failed", "failed", "running", "missing"]
    assert list(rows["cause"][1:3]) == ["NaN", "killed"]


def test_a_run_in_no_grid_is_a_problem(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.done("both", 7, 0.5)
    folder.cells.pop()
    folder.manifest()
    records = collect(tmp_path)
    assert records.problems == [f"{folder.path('both', 7)}: in no grid of this folder, therefore in no table"]


def test_a_seed_that_contradicts_the_grid_is_a_problem(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.cells[0]["seed"] = 5
    folder.manifest()
    assert "seed 0 in its spec, seed 5 in grid shapes-ablation-0123456789" in collect(tmp_path).problems[0]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs and no grids in this folder"):
        collect(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        collect(tmp_path / "nothing")

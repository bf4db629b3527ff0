"""The timing script makes runs that the report reads without a problem, and prints what it measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from benchmarks import time_report
from dynamic_rcnn.errors import UserError


def test_a_small_set_of_runs_is_timed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert time_report.main([f"folder={tmp_path / 'set'}", "runs=40", "rows=6"]) == 0
    line = r"report: [\d.]+ s, [\d.]+ s of CPU time, [\d.]+ GB of memory at most\n"
    assert re.fullmatch(line, capfd.readouterr().out)
    records = collect(tmp_path / "set/runs")
    assert len(records.runs) == 40 and records.problems == [] and len(records.curves) == 240
    assert set(records.runs["state"]) == {"done", "failed"}
    assert len(records.histograms) == 160 and len(records.classes) == 80 * (records.runs["state"] == "done").sum()


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must name a folder that does not exist yet"):
        time_report.main([f"folder={tmp_path}"])
    with pytest.raises(UserError, match=r"folder=: must name"):
        time_report.main([])

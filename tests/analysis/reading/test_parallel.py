"""Work in processes gives what it gives in this one, and a killed process is one line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pandas as pd
import pytest

from analysis.reading import parallel, reader
from analysis.reading.records import collect
from analysis.rendering import plots as figures
from dynamic_rcnn.errors import UserError
from tests.analysis.synthetic import ablation, write_report

TWO_CORES = {0, 1}


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: TWO_CORES)


def test_results_come_in_the_order_of_the_items_from_other_processes() -> None:
    offset = 10  # what `work` closes over needs not be sent
    found = parallel.in_processes(lambda item: (item + offset, os.getpid()), list(range(40)), least=4)
    assert [value for value, _ in found] == list(range(10, 50))
    assert os.getpid() not in {process for _, process in found}


def test_few_items_and_threads_stay_in_this_process() -> None:
    def process_of(_: int) -> int:
        return os.getpid()

    assert set(parallel.in_processes(process_of, range(7), least=4)) == {os.getpid()}
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(parallel.in_processes(process_of, range(40), least=4)))
    thread.start()
    thread.join()
    assert set(found) == {os.getpid()}


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^one of 2 processes was killed, often by the kernel"):
        parallel.in_processes(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(40), least=4)


def test_records_and_pages_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ablation(tmp_path / "runs")
    (tmp_path / "runs" / folder.path("dla", 1) / "metrics.json").write_text("{")
    alone, page = collect(tmp_path / "runs"), write_report(tmp_path / "runs", tmp_path / "alone.md")
    monkeypatch.setattr(reader, "FEW_RUNS", 1)
    monkeypatch.setattr(figures, "FEW_FIGURES", 1)
    shared = collect(tmp_path / "runs")
    for name in ("runs", "curves", "thresholds", "classes", "histograms"):
        pd.testing.assert_frame_equal(getattr(shared, name), getattr(alone, name))
    assert shared.problems == alone.problems != []
    assert write_report(tmp_path / "runs", tmp_path / "R.md").replace("R_files", "alone_files") == page
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "R_files").glob("*.svg")}
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "alone_files").glob("*.svg")} != {}

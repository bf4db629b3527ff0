"""The report accounts for every run directory that was started, from runs and from records alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis import records
from analysis.reading.run_table import collect
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import locked
from tests.analysis.synthetic import RunsFolder, edit_json, markdown, row_of

HEADING = "## Every run that was started"


@pytest.fixture
def folder(tmp_path: Path) -> RunsFolder:
    """One run in each state, one with two attempts, two that are in no grid, and three directories moved aside."""
    made = RunsFolder(tmp_path / "runs")
    resumed = made.done("baseline", 0, 0.4)
    edit_json(resumed / "status.json", attempts=[{"number": 1}, {"number": 2}])
    made.done("baseline", 1, 0.4)
    made.start("both", 0, "failed", cause="NaN")
    (made.done("both", 1, 0.5) / "metrics.json").write_text("{")
    made.ask("dla", 0)
    edit_json(made.done("dsl", 0, 0.5) / "status.json", attempts=[{"number": number} for number in (1, 2, 3)])
    made.start("dsl", 1, "failed")
    made.cells = made.cells[:-2]
    made.manifest()
    for suffix in ("stale1", "stale2", "lost1"):
        shutil.copytree(resumed, resumed.with_name(f"{resumed.name}.{suffix}"))
    return made


def account(runs: Path) -> list[str]:
    return row_of(markdown(runs), HEADING, "shapes")[1:]


def test_each_directory_is_counted_once_by_runs_and_records_alike(folder: RunsFolder, tmp_path: Path) -> None:
    #           started, done, failed, running, unreadable, replaced, resumed, in no table
    expected = ["9", "3", "2", "0", "1", "3 (1 lost, 2 stale)", "2", "2"]
    assert account(folder.root) == expected
    out = tmp_path / "records"
    records.main([f"runs={folder.root}", f"out={out}"])
    assert account(out) == expected
    records.main([f"runs={out}", f"out={tmp_path / 'again'}"])
    assert account(tmp_path / "again") == expected
    rows = json.loads((out / "aside.json").read_text())["directories"]
    assert {(row["path"].split("/")[1], row["reason"], row["state"]) for row in rows} == {
        *(("baseline", reason, None) for reason in ("lost", "stale")),
        *(("dsl", "in no table", state) for state in ("done", "failed")),
    }
    assert "aside.json" in (out / "SHA256SUMS").read_text()


def test_the_section_comes_after_what_was_not_run(folder: RunsFolder) -> None:
    text = markdown(folder.root)
    assert text.index("## What was not run") < text.index(HEADING) < text.index("## Problems found while reading")


def test_running_runs_and_other_data_sets_are_counted(folder: RunsFolder) -> None:
    coco = RunsFolder(folder.root, "coco")
    held = coco.start("both", 0, "running")
    coco.manifest()
    with locked(held):
        text = markdown(folder.root)
    assert row_of(text, HEADING, "coco")[1:] == ["1", "0", "0", "1", "0", "0", "0", "0"]


def test_the_section_says_that_no_run_was_started(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.ask("both", 0)
    folder.manifest()
    assert "No run was started." in markdown(tmp_path)


def test_an_unreadable_list_is_a_problem_and_not_a_zero(folder: RunsFolder, tmp_path: Path) -> None:
    out = tmp_path / "records"
    records.main([f"runs={folder.root}", f"out={out}"])
    edit_json(out / "aside.json", directories=[])
    assert account(out) == ["not known", "2", "1", "0", "1", "not known", "1", "not known"]
    assert any(line.startswith("aside.json: differs from SHA256SUMS") for line in collect(out).problems)
    (out / "SHA256SUMS").unlink()
    edit_json(out / "aside.json", directories=[{"path": "shapes"}])
    assert any(
        "aside.json: directories[0].path=shapes: must be <dataset>/<arm>/<directory>; " in line
        for line in collect(out).problems
    )
    with pytest.raises(UserError, match=r"aside\.json cannot be read"):
        records.main([f"runs={out}", f"out={tmp_path / 'again'}"])

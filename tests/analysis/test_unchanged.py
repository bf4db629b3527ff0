"""A report that is there already, of the same records and code, is not made again; anything else makes it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import report, unchanged
from analysis.sections.page import TITLE
from dynamic_rcnn.run.directory import locked
from tests.analysis.synthetic import RunsFolder, ablation, edit_json, write_report


@pytest.fixture
def made(tmp_path: Path) -> RunsFolder:
    folder = ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    return folder


def again(root: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    write_report(root / "runs", root / "R.md")
    return capsys.readouterr().out


def test_nothing_is_read_where_nothing_changed(
    made: RunsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "collect", lambda runs: pytest.fail("read"))
    assert again(tmp_path, capsys) == f"{tmp_path / 'R.md'}: unchanged\n"


CHANGES: dict[str, Callable[[Path, RunsFolder], object]] = {
    "a record": lambda root, made: edit_json(root / "runs" / made.path("both", 1) / "status.json", heartbeat=3.0),
    "a run gone": lambda root, made: (root / "runs" / made.path("both", 1) / "metrics.json").unlink(),
    "a new file": lambda root, made: (root / "runs/shapes/astray").write_text(""),
    "the page": lambda root, made: (root / "R.md").write_text(f"# {TITLE}\n\nmine"),
    "the HTML page": lambda root, made: (root / "r.html").unlink(),
    "a figure": lambda root, made: next((root / "R_files").glob("*.svg")).write_text("<svg/>"),
    "a table": lambda root, made: (root / "R_files/tables/claims.csv").unlink(),
    "the note": lambda root, made: (root / "R_files/.made_of.json").write_text("{"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_change_makes_it_again(
    what: str, made: RunsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CHANGES[what](tmp_path, made)
    assert "1 grid, 13 runs" in again(tmp_path, capsys)
    assert again(tmp_path, capsys) == f"{tmp_path / 'R.md'}: unchanged\n"
    assert (tmp_path / "R.md").read_text().startswith("# Dynamic R-CNN")


def test_an_empty_run_directory_makes_it_again(
    made: RunsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / made.path("both", 1)).with_name("seed9-0").mkdir()
    assert "1 grid, 14 runs" in again(tmp_path, capsys)


@pytest.mark.parametrize("name", [".slurm/submitted.json", ".code/x.py", "shapes/both/.grid.json.77.tmp"])
def test_what_no_report_reads_does_not(
    name: str, made: RunsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / made.path("both", 1)
    for path in (tmp_path / "runs" / name, run / "checkpoints/iter_9.pt", run / "logs/rank0.log"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert again(tmp_path, capsys).count("\n") == 1  # the folders of checkpoints and logs are new, for one time
    (run / "checkpoints/iter_9.pt").write_text("more")
    assert again(tmp_path, capsys) == f"{tmp_path / 'R.md'}: unchanged\n"


def test_arms_may_have_the_names_of_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunsFolder(tmp_path / "runs")
    folder.done("logs", 0, 0.4)
    folder.manifest(baseline="logs", arms={"logs": "no logs"})
    write_report(tmp_path / "runs", tmp_path / "R.md")
    edit_json(tmp_path / "runs" / folder.path("logs", 0) / "status.json", heartbeat=3.0)
    assert "1 grid, 1 run" in again(tmp_path, capsys)


def test_links_to_nothing_and_to_a_folder_around_end_nothing(
    made: RunsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / made.path("both", 1)
    (run / "gone").symlink_to("nowhere")
    (run / "around").symlink_to(tmp_path / "runs")
    (tmp_path / "runs/shapes/both/notes").symlink_to("nowhere")
    assert "3 problems" in again(tmp_path, capsys)


def test_other_code_or_libraries_make_it_again(
    made: RunsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("analysis.unchanged.version", lambda name: "0")
    assert "unchanged" not in again(tmp_path, capsys)
    monkeypatch.setattr("analysis.unchanged.ROOT", tmp_path)
    assert "unchanged" not in again(tmp_path, capsys)


@pytest.mark.parametrize("file", ["analysis/sections/page.py", "dynamic_rcnn/errors.py", "dynamic_rcnn/run/spec.py"])
def test_the_inputs_are_others_where_code_is(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    monkeypatch.setattr("analysis.unchanged.ROOT", tmp_path)
    (tmp_path / "runs").mkdir()
    before = unchanged.inputs(tmp_path / "runs")
    (tmp_path / file).write_text("x = 1")
    assert unchanged.inputs(tmp_path / "runs") != before


def test_check_reads_the_records(made: RunsFolder, tmp_path: Path) -> None:
    arguments = [f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'R.md'}", "check=true"]
    assert report.main(arguments) == 0
    (tmp_path / "R.md").write_text("mine")
    assert report.main(arguments) == 1


def test_while_a_run_goes_on_it_is_made_each_time(
    made: RunsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / made.path("both", 1)
    (run / "metrics.json").unlink()
    edit_json(run / "status.json", state="running")
    with locked(run):
        assert "unchanged" not in again(tmp_path, capsys)
        assert "unchanged" not in again(tmp_path, capsys)
    assert "killed" in write_report(tmp_path / "runs", tmp_path / "R.md")

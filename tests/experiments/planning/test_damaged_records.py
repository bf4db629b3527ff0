"""Launching beside damaged and foreign records: each is reported and kept, and the other runs are trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.launches import Folder, listing


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("spec.json", "{", "spec.json: not valid JSON"),
        ("spec.json", '{"schema": 1}', "spec.json: arm: must be given; seed: must be given"),
        ("spec.json", None, "spec.json: is missing, but there is status.json, train.jsonl, metrics.json"),
        ("metrics.json", '{"schema": 7}', "schema 7 is newer than 1, which this version reads; update the suite"),
        ("metrics.json", "\x00", "move it away, then "),
    ],
)
def test_a_damaged_record_is_not_overwritten(folder: Folder, name: str, text: str | None, message: str) -> None:
    folder.launch("arms=[dla]")
    path = folder.run("dla")
    if text is None:
        (path / name).unlink()
    else:
        (path / name).write_text(text)
    before = listing(path)
    code, out, err = folder.launch("arms=[dla,dsl]")
    assert (code, err) == (1, "")
    assert "corrupt record: " in out and message in out
    assert "a run directory with a corrupt record is not overwritten" in out and "launching again resumes" not in out
    assert listing(path) == before
    assert folder.status("dsl")["state"] == "done"  # the other runs are trained


def test_a_directory_with_another_runs_spec_is_reported(folder: Folder) -> None:
    folder.launch("arms=[dla,dsl]")
    path = folder.run("dla")
    (path / "spec.json").write_bytes((folder.run("dsl") / "spec.json").read_bytes())
    code, out, _ = folder.launch("arms=[dla,dsl]")
    assert code == 1
    assert f"its spec.json is of another run ({folder.run('dsl').name.split('-')[1]})" in out


def test_the_plan_notes_what_a_done_run_lacks(folder: Folder) -> None:
    folder.launch("arms=[dla]")
    (folder.run("dla") / "status.json").unlink()
    (folder.run("dla") / "train.jsonl").write_text("")
    _, out, _ = folder.launch("arms=[dla]", "action=plan")
    assert "metrics.json exists, but status.json is missing and train.jsonl is empty" in out

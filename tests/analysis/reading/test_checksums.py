"""SHA256SUMS of records: every changed file is a problem, and its run is in no table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import records, report
from analysis.reading.run_table import collect
from dynamic_rcnn.errors import UserError
from tests.analysis.synthetic import RunsFolder, ablation, edit_json, markdown, row_of, write_report

AGAIN = "; restore the recorded file, or write the records again"
MANIFEST = "shapes/ablation-0123456789.grid.json"


@pytest.fixture
def folder(tmp_path: Path) -> RunsFolder:
    """Records of the ablation; both has AP 50 51 52."""
    made = ablation(tmp_path / "runs")
    records.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'records'}"])
    made.root = tmp_path / "records"
    return made


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_sha256sum_accepts_the_file_and_it_lists_every_file(folder: RunsFolder) -> None:
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder.root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    files = {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file()}
    listed = [line[66:] for line in (folder.root / "SHA256SUMS").read_text().splitlines()]
    assert listed == sorted(files - {"SHA256SUMS"})
    assert collect(folder.root).problems == []


def _ap(run: Path) -> None:
    path = run / "metrics.json"
    edit_json(path, metrics={**json.loads(path.read_text())["metrics"], "AP": 0.9})


def _cut(run: Path) -> None:
    path = run / "detections.json.gz"
    path.write_bytes(path.read_bytes()[:-4])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]]]] = {
    "edited": (_ap, [("metrics.json", "differs from SHA256SUMS")]),
    "cut": (_cut, [("detections.json.gz", "differs from SHA256SUMS")]),
    "spec": (lambda run: (run / "spec.json").write_text("{}"), [("spec.json", "differs from SHA256SUMS")]),
    "pipe": (lambda run: _pipe(run / "detections.json.gz"), [("detections.json.gz", "a pipe, not a file")]),
    "gone": (lambda run: (run / "train.jsonl").unlink(), [("train.jsonl", "missing, but listed in SHA256SUMS")]),
    "directory": (
        shutil.rmtree,
        [
            (name, "missing, but listed in SHA256SUMS")
            for name in ("detections.json.gz", "metrics.json", "provenance.json", "spec.json", "status.json")
        ]
        + [("train.jsonl", "missing, but listed in SHA256SUMS")],
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_changed_run_is_in_no_mean(folder: RunsFolder, name: str) -> None:
    damage, faults = DAMAGE[name]
    run = folder.path("both", 2)
    damage(folder.root / run)
    found = collect(folder.root)
    assert found.problems == [f"{run}/{file}: {fault}{AGAIN}" for file, fault in faults]
    rows = found.runs_of(found.grids[0]).set_index(["arm", "seed"])
    assert list(rows.loc[("both", 2), ["state", "cause"]]) == ["unreadable", "checksum"]
    assert (rows.drop(index=("both", 2))["state"] == "done").all()
    text = markdown(folder.root)
    assert row_of(text, "### Ablation", "both")[1:3] == ["2 done, 1 unreadable (checksum)", "2"]
    assert row_of(text, "### Ablation", "both")[3].startswith("50.50 ± 0.71<br>")
    assert row_of(text, "### Runs", "both | 2")[-2:] == ["–", "–"]


def test_check_fails_on_edited_records(folder: RunsFolder, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.root.with_name("R.md")
    write_report(folder.root, out)
    check = [f"runs={folder.root}", f"out={out}", "check=true"]
    assert report.main(check) == 0
    _ap(folder.root / folder.path("both", 2))
    assert report.main(check) == 1
    assert "the records give '- [Does Dynamic R-CNN work?]" in capsys.readouterr().err  # with 2 seeds of both


def test_edited_records_are_not_copied_under_new_checksums(folder: RunsFolder, tmp_path: Path) -> None:
    again = [f"runs={folder.root}", f"out={tmp_path / 'again'}"]
    assert records.main(again) == 0
    _ap(folder.root / folder.path("both", 2))
    with pytest.raises(UserError, match=r"metrics\.json: differs from SHA256SUMS \(1 such file\); restore"):
        records.main(again)


def test_an_unlisted_file_is_a_problem(folder: RunsFolder) -> None:
    """An unlisted note does not matter; of an unlisted file that the report would read, the whole run is not read."""
    run = folder.path("both", 2)
    (folder.root / run / "notes.txt").write_text("mine")
    found = collect(folder.root)
    assert f"{run}/notes.txt: not listed in SHA256SUMS{AGAIN}" in found.problems
    assert (found.runs["state"] == "done").all()
    sums = folder.root / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.open() if f"{run}/metrics.json" not in line))
    found = collect(folder.root)
    assert f"{run}/metrics.json: not listed in SHA256SUMS{AGAIN}" in found.problems
    assert list(found.runs.loc[found.runs["path"] == run, "cause"]) == ["checksum"]


def test_a_changed_manifest_or_image_file_is_not_used(folder: RunsFolder) -> None:
    images = MANIFEST.replace(".grid.", ".images.")
    (folder.root / images).write_text("{}")
    assert collect(folder.root).problems == [f"{images}: not listed in SHA256SUMS{AGAIN}"]
    (folder.root / images).unlink()
    edit_json(folder.root / MANIFEST, title="Mine")
    found = collect(folder.root)
    assert found.grids == [] and found.problems[0] == f"{MANIFEST}: differs from SHA256SUMS{AGAIN}"


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"", 1), (b"nonsense\n", 1), (b"0" * 64 + b"  a\n" + b"0" * 64 + b"  ../b\n", 2), (b"\xff", None)],
)
def test_a_damaged_list_is_one_problem(folder: RunsFolder, content: bytes, line: int | None) -> None:
    (folder.root / "SHA256SUMS").write_bytes(content)
    found = collect(folder.root)
    (problem,) = found.problems
    message = "cannot be read (UnicodeDecodeError)" if line is None else f"line {line} is not the checksum of a file"
    assert problem.startswith(f"SHA256SUMS: {message}") and "so no file is checked" in problem
    assert (found.runs["state"] == "done").all()

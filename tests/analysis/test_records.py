"""The records command: what it copies, what it rejects, and that the report from the copy is the same."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from analysis import records
from analysis.reading.run_table import collect
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import locked
from tests.analysis.synthetic import START, RunsFolder, ablation, markdown


def copy(tmp_path: Path, *more: str, problems: bool = False) -> Path:
    out = tmp_path / "out/records"
    assert records.main([f"runs={tmp_path / 'runs'}", f"out={out}", *more]) == int(problems)
    return out


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_copies_what_the_report_needs_and_no_more(tmp_path: Path) -> None:
    folder = ablation(tmp_path / "runs")
    run = tmp_path / "runs" / folder.path("both", 0)
    for extra in ("checkpoints/weights.pth", "logs/attempt1.log", "lock"):
        (run / extra).parent.mkdir(exist_ok=True)
        (run / extra).write_bytes(b"x")
    out = copy(tmp_path)
    files = names(out)
    assert {path.rsplit("/", 1)[-1] for path in files} == {
        *("spec.json", "status.json", "provenance.json", "train.jsonl", "metrics.json", "detections.json.gz"),
        "ablation-0123456789.grid.json",
        "SHA256SUMS",
        "aside.json",
    }
    assert len(files) == 13 * 6 + 3 and f"shapes/pretrain/seed0-{START}/spec.json" in files
    assert markdown(out) == markdown(tmp_path / "runs")
    assert [path.name for path in out.parent.iterdir()] == ["records"]


def test_runs_in_no_grid_are_not_copied(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "runs")
    folder.done("baseline", 0, 0.4)
    folder.ask("baseline", 1)
    folder.manifest()
    folder.done("both", 0, 0.5)
    assert {path.split("/", 1)[-1].split("/")[0] for path in names(copy(tmp_path, problems=True))} == {
        "SHA256SUMS",
        "aside.json",
        "baseline",
        "ablation-0123456789.grid.json",
    }


def test_replaces_older_records_as_a_whole(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    out = copy(tmp_path)
    gone = out / "shapes/both/seed9-ffffffffff/spec.json"
    gone.parent.mkdir()
    gone.write_text("{}")
    copy(tmp_path)
    assert not gone.exists() and len(names(out)) == 13 * 6 + 3


def test_chooses_grids_by_name(tmp_path: Path) -> None:
    ablation(tmp_path / "runs").manifest("smoke")
    out = copy(tmp_path, "grids=smoke")
    assert [grid.name for grid in collect(out).grids] == ["smoke"]
    with pytest.raises(UserError, match="unknown grid 'smok'; valid: ablation, ablation-0123456789, smoke"):
        copy(tmp_path, "grids=smok")


def test_recorded_runs_that_are_missing_or_unreadable_are_not_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ablation(tmp_path / "runs")
    out = copy(tmp_path)
    kept = {path: (out / path).read_bytes() for path in names(out)}
    (tmp_path / "runs/shapes/both").rename(tmp_path / "both")
    with pytest.raises(
        UserError,
        match=rf"{folder.path('both', 0)}: would be lost \(3 such records\): it is missing or unreadable in runs=",
    ):
        copy(tmp_path)
    assert {path: (out / path).read_bytes() for path in names(out)} == kept
    (tmp_path / "both").rename(tmp_path / "runs/shapes/both")
    (tmp_path / "runs/shapes/both/notes").write_text("mine")
    copy(tmp_path, problems=True)
    assert capsys.readouterr().err.endswith("problem: shapes/both/notes: not part of a run; ignored\n")


def test_a_damaged_file_is_copied_unchanged(tmp_path: Path) -> None:
    folder = ablation(tmp_path / "runs")
    path = f"{folder.path('dla', 2)}/metrics.json"
    (tmp_path / "runs" / path).write_text("{")
    out = copy(tmp_path, problems=True)
    assert (out / path).read_text() == "{"
    assert markdown(out) == markdown(tmp_path / "runs")


def refused(tmp_path: Path, expected: str, *more: str) -> None:
    with pytest.raises(UserError) as caught:
        copy(tmp_path, *more)
    assert expected in str(caught.value)


def test_large_detections_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ablation(tmp_path / "runs")
    file = f"{folder.path('both', 2)}/detections.json.gz"
    (tmp_path / "runs" / file).write_bytes(gzip.compress(random.Random(0).randbytes(2_300_000)))
    out = copy(tmp_path)
    assert f"\n{file}: left out, 2.3 MB (at most 1 MB of detections" in "\n" + capsys.readouterr().out
    assert len(names(out)) == 13 * 6 + 2 and file not in names(out)
    assert markdown(out) == markdown(tmp_path / "runs")


def test_rejects_a_running_run(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "runs")
    run = folder.start("both", 0, "running")
    folder.manifest()
    with locked(run):
        refused(tmp_path, f"{folder.path('both', 0)}: still running; wait for it or cancel it")


def test_rejects_a_folder_with_other_files(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    mine = tmp_path / "out/records/thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    refused(tmp_path, f"{mine}: not a record, and {mine.parent} is replaced; move it away or choose")
    assert mine.read_text() == "years of work"
    refused(tmp_path, "inside runs=", f"out={tmp_path / 'runs/records'}")
    refused(tmp_path, "inside runs=", f"out={tmp_path}")


def test_runs_elsewhere_do_not_replace_the_committed_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ablation(tmp_path / "runs")
    monkeypatch.setattr(records, "ROOT", tmp_path / "project")
    with pytest.raises(UserError, match=r"out= must be given with runs=: its default, the committed records, would"):
        records.main([f"runs={tmp_path / 'runs'}"])


def test_rejects_runs_without_a_grid(tmp_path: Path) -> None:
    RunsFolder(tmp_path / "runs").done("both", 0, 0.5)
    refused(tmp_path, "no grid manifest in this folder")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("between", [False, True])
def test_what_a_killed_copy_left_is_restored_or_removed(tmp_path: Path, between: bool) -> None:
    ablation(tmp_path / "runs")
    out = copy(tmp_path)
    kept = names(out)
    (out / "SHA256SUMS").unlink()
    fresh, old = (out.with_name(f".records.999999999.{kind}") for kind in ("new", "old"))
    fresh.mkdir()
    mine = out.with_name(".records.notes.new")
    mine.mkdir()
    if between:
        out.rename(old)
    (tmp_path / "runs/shapes/ablation-0123456789.grid.json").rename(tmp_path / "manifest")
    with pytest.raises(UserError):
        copy(tmp_path)
    (tmp_path / "manifest").rename(tmp_path / "runs/shapes/ablation-0123456789.grid.json")
    assert names(copy(tmp_path)) == kept
    assert sorted(path.name for path in out.parent.iterdir()) == [".records.notes.new", "records"]


def test_a_failed_copy_leaves_the_old_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ablation(tmp_path / "runs")
    out = copy(tmp_path)
    status = tmp_path / "runs" / folder.path("both", 2) / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"heartbeat": 9.0}))
    calls = []

    def full_disk(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 20:
            raise OSError(28, "No space left on device", str(target))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("analysis.records.shutil.copyfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        copy(tmp_path)
    assert len(names(out)) == 13 * 6 + 3 and [path.name for path in out.parent.iterdir()] == ["records"]

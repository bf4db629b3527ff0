"""Missing, corrupt, foreign and newer files: each is a problem, and everything else is read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.reading.run_table import collect
from analysis.sections.page import build
from dynamic_rcnn.run.spec import RunSpec
from tests.analysis.synthetic import START, RunsFolder, ablation, edit_json, write_json


def _cut(name: str) -> Callable[[Path], object]:
    """Cut off the end of a file."""
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-9])


def _written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content)


def _percent(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    edit_json(run / "metrics.json", metrics={**metrics, "AP": 41.0})


def _damaged_detections(run: Path) -> None:
    path = run / "detections.json.gz"
    path.write_bytes(path.read_bytes()[:10] + b"\xff" * 9)


def _edited(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda run: edit_json(run / name, **changes)


def _edited_log(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        lines = (run / "train.jsonl").read_text().splitlines()
        (run / "train.jsonl").write_text("".join(f"{line}\n" for line in change(lines)))

    return edit


def _edited_row(name: str, value: Any) -> Callable[[Path], None]:
    return _edited_log(lambda lines: [json.dumps(json.loads(lines[0]) | {name: value}), *lines[1:]])


def _pipe(run: Path) -> None:
    (run / "metrics.json").unlink()
    os.mkfifo(run / "metrics.json")


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated": (_cut("metrics.json"), "metrics.json: not valid JSON", "unreadable"),
    "newer": (_edited("metrics.json", schema=99), "metrics.json: schema 99 is newer than 1", "unreadable"),
    "foreign": (_written("metrics.json", b"[1, 2]"), "metrics.json: not a file of this suite", "unreadable"),
    "percent": (
        _percent,
        "metrics.json: metrics.AP=41.0: must be at most 1",
        "unreadable",
    ),
    "binary": (_written("train.jsonl", b"\xff\xfe\n{}\n"), "train.jsonl: cannot be read (UnicodeDecodeError)", "done"),
    "line": (
        _written("train.jsonl", b'{"iteration": 10}\n{"iteration":\n{"iteration": 30}\n'),
        "train.jsonl: line 2: not valid JSON (input data was truncated)",
        "done",
    ),
    "stray": (_written("notes.txt", b"mine"), "notes.txt: not part of a run; ignored", "done"),
    "cut": (_cut("detections.json.gz"), "detections.json.gz: broken or cut off (EOFError)", "done"),
    "no detections": (
        lambda run: (run / "detections.json.gz").unlink(),
        "detections.json.gz: missing although metrics.json exists; restore it",
        "done",
    ),
    "plain": (_written("detections.json.gz", b"[]"), "detections.json.gz: broken or cut off (BadGzipFile)", "done"),
    "damaged": (_damaged_detections, "detections.json.gz: broken or cut off (error)", "done"),
    "provenance": (_written("provenance.json", b'{"schema"'), "provenance.json: not valid JSON", "done"),
    "commit": (_edited("provenance.json", commit=5), "provenance.json: commit=5: must be text", "done"),
    "command": (_edited("provenance.json", command=["x"]), "command=['x']: must be text", "done"),
    "dirty": (_edited("provenance.json", dirty="no"), "dirty=no: must be true or false", "done"),
    "images": (_edited("metrics.json", images="many"), "images=many: must be an integer", "unreadable"),
    "class": (
        _edited("metrics.json", per_class={"a": {"AP": 41.0}}),
        "per_class.a.AP=41.0: must be",
        "unreadable",
    ),
    "text": (_edited("metrics.json", per_class={"a": {"AP": "1"}}), "per_class.a.AP=1: must be a number", "unreadable"),
    "histogram": (
        _edited_row("iou_histogram", ["a"]),
        "train.jsonl: line 1: field 'iou_histogram[0]': expected int, got str",
        "done",
    ),
    "arm": (_edited("spec.json", arm="dla"), "spec.json: the spec of shapes/dla/seed1-", "unreadable"),
    "pipe": (_pipe, "metrics.json: a pipe, not a file; move it away", "unreadable"),
    "log": (_edited_log(lambda lines: []), "train.jsonl: missing or empty, though the run is done", "done"),
    "cut log": (_edited_log(lambda lines: lines[:5]), "train.jsonl: ends at iteration 50, though the run is", "done"),
    "incomplete": (
        _cut("train.jsonl"),
        "train.jsonl: the last line is incomplete, though the run is done",
        "done",
    ),
    "status": (_written("status.json", b"{"), "status.json: not valid JSON", "done"),
    "no status": (lambda run: (run / "status.json").unlink(), "status.json: missing", "done"),
    "state": (_edited("status.json", state="failed"), "status.json: state=failed, though the run is done", "done"),
    "gap": (
        _edited_log(lambda lines: [*lines[:2], *lines[4:]]),
        "rows between iterations 20 and 50 are missing",
        "done",
    ),
    "twice": (_edited_log(lambda lines: [*lines, *lines]), "train.jsonl: iterations do not increase from row", "done"),
    "text number": (_edited_row("T", "0.4"), "train.jsonl: line 1: field 'T': expected float or null, got str", "done"),
    "infinite": (
        _edited_row("T", float("inf")),
        "train.jsonl: line 1: not valid JSON (invalid character",
        "done",
    ),
    "large": (_edited_row("T", 10**400), "train.jsonl: line 1: field 'T': number out of range", "done"),
    "count": (_edited_row("iteration", -1), "train.jsonl: line 1: field 'iteration': expected int >= 0", "done"),
    "surrogate": (
        _edited("provenance.json", command="\ud800"),
        "provenance.json: not valid JSON (an unpaired surr",
        "done",
    ),
    "spec": (lambda run: (run / "spec.json").unlink(), "spec.json: missing", "unreadable"),
    "content": (
        _edited("spec.json", config={"of": "dla"}),
        ", the id of the content, which was changed after the run; put the file back",
        "unreadable",
    ),
    "id": (_edited("spec.json", id="0123456789"), "spec.json: id=0123456789: must be ", "unreadable"),
    "number": (
        _edited("spec.json", config={"lr": float("nan")}),
        "spec.json: config.lr: must be a finite number",
        "unreadable",
    ),
    "name": (
        lambda run: RunSpec("both", 9, {"name": "shapes"}, {}).write(run),
        "the spec of shapes/both/seed9-",
        "unreadable",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_invalid_file_is_a_problem_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    damage, expected, state = CASES[name]
    folder = ablation(tmp_path)
    damage(tmp_path / folder.path("both", 1))
    records = collect(tmp_path)
    build(records)
    named = [line for line in records.problems if expected in line]
    assert len(named) == 1 and named[0].startswith(folder.path("both", 1))
    assert str(tmp_path) not in "".join(records.problems)
    rows = records.runs_of(records.grids[0]).set_index(["arm", "seed"])
    assert rows.loc[("both", 1), "state"] == state
    assert (rows.drop(index=("both", 1))["state"] == "done").all()


def test_a_report_is_written_if_a_run_has_no_spec(tmp_path: Path) -> None:
    """Such a run has no id, and runs without `replay` look up no id."""
    folder = ablation(tmp_path)
    for arm in ("both", "dla"):
        edit_json(tmp_path / folder.path(arm, 1) / "provenance.json", command="python experiments/launch.py grid=x")
    (tmp_path / folder.path("both", 1) / "spec.json").unlink()
    facts = build(collect(tmp_path)).runs
    assert facts[folder.path("dla", 1)]["command"] == "python experiments/launch.py grid=x 'arms=[dla]' 'seeds=[1]'"


def test_a_status_that_is_not_a_number_is_a_problem(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    run = folder.start("both", 0, "failed")
    write_json(run / "status.json", {"schema": 1, "state": "failed", "iteration": "many", "attempts": []})
    folder.manifest()
    records = collect(tmp_path)
    assert list(records.runs["state"]) == ["unreadable"]
    assert any("status.json" in line for line in records.problems)


def test_unknown_files_beside_runs_are_problems(tmp_path: Path) -> None:
    ablation(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "shapes/both/old.csv").write_text("1,2")
    assert collect(tmp_path).problems == [
        "notes.txt: not part of a run; ignored",
        "shapes/both/old.csv: not part of a run; ignored",
    ]


def test_broken_links_and_invalid_names_are_problems(tmp_path: Path) -> None:
    ablation(tmp_path)
    (tmp_path / "shapes/loop").symlink_to("loop")
    (tmp_path / "shapes/both/gone").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(tmp_path / "shapes") + b"/\xff")).mkdir()
    assert collect(tmp_path).problems == [
        "'shapes/\\udcff': the file name is not valid UTF-8; ignored",
        "shapes/both/gone: not part of a run; ignored",
        "shapes/loop: not part of a run; ignored",
    ]


def test_a_directory_that_was_moved_aside_is_not_a_run(tmp_path: Path) -> None:
    ablation(tmp_path)
    start = tmp_path / f"shapes/pretrain/seed0-{START}"
    shutil.copytree(start, start.with_name(f"{start.name}.stale1"))
    records = collect(tmp_path)
    assert records.problems == [] and len(records.runs) == 13
    assert list(records.start_runs(records.grids[0])["path"]) == [f"shapes/pretrain/seed0-{START}"]

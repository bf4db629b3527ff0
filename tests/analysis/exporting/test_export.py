"""Runs exported to each tool and read back from its real files. A tool that is not installed is skipped."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from analysis import export
from analysis.exporting.exported_run import ExportedRun, export_run
from analysis.exporting.tracker import Tracker
from analysis.reading.run_table import collect, read_folder
from dynamic_rcnn import cli
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.lock import locked
from tests.analysis.exporting.back_ends import READERS, Shown
from tests.analysis.synthetic import RunsFolder, curve_row, edit_json


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name == "mlflow" else ()) for name in READERS])
def tool(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    pytest.importorskip(name, reason=f"needs pip install -e '.[{name}]'")
    return name


@pytest.fixture(autouse=True)
def _small_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws one pixel in place of each figure."""
    pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "png")
    monkeypatch.setattr("analysis.rendering.plots.draw_png", lambda figure: pixel.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> RunsFolder:
    """A finished run of `baseline`, and one of `both` at iteration 40 of 100."""
    folder = RunsFolder(tmp_path / "runs")
    done = folder.done("baseline", 0, ap=0.4, ap90=0.1)
    (done / "evaluations.jsonl").write_text(json.dumps({"iteration": 50, "AP": 0.25, "AP90": None}) + "\n")
    folder.start("both", 0, "failed", "killed")
    folder.manifest()
    return folder


def export_once(folder: RunsFolder, tool: str) -> list[Shown]:
    assert export.main([f"to={tool}", f"runs={folder.root}"]) == 0
    return read(folder, tool)


def read(folder: RunsFolder, tool: str) -> list[Shown]:
    """The runs by name. The figures are in one more, the first."""
    report, *runs = sorted(READERS[tool](folder.root / tool), key=lambda shown: shown.name)
    assert report.name == "report"
    return runs


def resume(folder: RunsFolder, first: int, last: int, shift: float = 0.0) -> None:
    """Log more rows of `both`, from a checkpoint at iteration `first`. shift: of its losses, as a GPU's may be."""
    log = folder.root / folder.path("both", 0) / "train.jsonl"
    rows = [row for row in map(json.loads, log.read_text().splitlines()) if row["iteration"] <= first]
    rows += [curve_row("both", 0, at) for at in range(first + 10, last + 1, 10)]
    rows = [row | {"loss": row["loss"] + shift * (row["iteration"] > first)} for row in rows]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))


def logged(folder: RunsFolder, name: str) -> list[Any]:
    log = folder.root / folder.path("both", 0) / "train.jsonl"
    rows = map(json.loads, log.read_text().splitlines())
    return [(row["iteration"], pytest.approx(row[name], rel=1e-6)) for row in rows]


def test_curves_metrics_tags_and_configuration(folder: RunsFolder, tool: str) -> None:
    baseline, both = export_once(folder, tool)
    assert (baseline.name, both.name) == (folder.path("baseline", 0), folder.path("both", 0))
    for shown, name in (("train/loss", "loss"), ("schedule/T", "T"), ("schedule/beta", "beta"), ("train/lr", "lr")):
        assert both.curves[shown] == logged(folder, name)
    assert both.curves["proposals/positives"] == logged(folder, "positives")
    assert both.curves["proposals/proposals_50"] == logged(folder, "proposals_50")
    assert "schedule/error_statistic" not in both.curves and "final/AP" not in both.curves
    assert baseline.curves["val/AP"] == [(50, 25.0)] and "val/AP90" not in baseline.curves
    assert baseline.curves["final/AP"] == [(100, 40.0)]
    assert baseline.curves["final/AP90"] == [(100, pytest.approx(10.0))] and "final/ARs" not in baseline.curves
    facts = {"arm": "baseline", "seed": "0", "dataset": "shapes", "grids": "ablation", "code": "c0dec0dec0"}
    facts |= {"state": "done", "commit": "0123456789abcdef", "run": baseline.name[-10:]}
    assert baseline.tags.items() >= facts.items()
    assert (both.tags["state"], both.tags["cause"]) == ("failed", "killed")
    assert "baseline" in baseline.config and "baseline" not in both.config


def test_the_figures_of_the_report_are_a_run_of_their_own(folder: RunsFolder, tool: str) -> None:
    export_once(folder, tool)
    (report,) = (shown for shown in READERS[tool](folder.root / tool) if shown.name == "report")
    assert "figures/shapes-ablation-0123456789-ap-by-iou" in report.images
    assert report.curves == {"runs_done": [(1, 1.0)]}
    folder.done("both", 0, ap=0.5)
    export_once(folder, tool)
    (report,) = (shown for shown in READERS[tool](folder.root / tool) if shown.name == "report")
    assert report.curves == {"runs_done": [(2, 2.0)]}


def test_exporting_again_writes_nothing(folder: RunsFolder, tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = export_once(folder, tool)
    before = {path: path.read_bytes() for path in (folder.root / tool).rglob("*") if path.is_file()}
    assert export_once(folder, tool) == first
    assert {path: path.read_bytes() for path in (folder.root / tool).rglob("*") if path.is_file()} == before
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": 2 runs, 2 with something new") and lines[3].endswith(": 2 runs, 0 with something new")


def test_a_later_export_continues_the_curves(folder: RunsFolder, tool: str) -> None:
    export_once(folder, tool)
    resume(folder, 40, 70)
    edit_json(folder.root / folder.path("both", 0) / "status.json", cause="out of memory")
    _, both = export_once(folder, tool)
    assert both.curves["train/loss"] == logged(folder, "loss") and both.curves["train/loss"][-1][0] == 70
    assert both.tags["cause"] == "out of memory"


@pytest.mark.parametrize("last", [30, 60])
def test_a_resumed_run_is_one_curve(folder: RunsFolder, tool: str, last: int) -> None:
    """It logs the iterations after its checkpoint again, here with other values."""
    export_once(folder, tool)
    resume(folder, 20, last, shift=0.5)
    shown = export_once(folder, tool)
    assert len(shown) == 2 and shown[1].curves["train/loss"] == logged(folder, "loss")


def test_an_interrupted_export_is_completed(folder: RunsFolder, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    export_once(folder, tool)
    resume(folder, 40, 70)
    complete = export.TRACKERS[tool].write_state

    def interrupted(tracker: Tracker, run: Any, state: Any) -> None:
        if state is not None:
            raise KeyboardInterrupt
        complete(tracker, run, state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(export.TRACKERS[tool], "write_state", interrupted)
        export_once(folder, tool)
    shown = export_once(folder, tool)
    assert len(shown) == 2 and shown[1].curves["train/loss"] == logged(folder, "loss")


def test_watching_appends_to_a_run_until_its_end(
    folder: RunsFolder, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = export.TRACKERS[tool].write, []

    def write_and_note(tracker: Tracker, run: ExportedRun, first: int | None) -> None:
        if run.tags["arm"] == "both":
            written.append((first, len(run.points), run.tags["state"]))
        write(tracker, run, first)

    def train(seconds: float) -> None:
        rows = len(logged(folder, "loss"))
        resume(folder, 10 * rows, 10 * rows + 30)
        if rows == 7:
            folder.done("both", 0, ap=0.5)

    monkeypatch.setattr(export.time, "sleep", train)
    monkeypatch.setattr(export.TRACKERS[tool], "write", write_and_note)
    with locked(folder.root / folder.path("both", 0)):
        assert export.main([f"to={tool}", f"runs={folder.root}", "watch=true"]) == 0
    assert written == [(None, 4, "running"), (4, 7, "running"), (7, 11, "done")]
    shown = read(folder, tool)
    assert len(shown) == 2 and shown[1].curves["schedule/T"] == logged(folder, "T")
    assert shown[1].curves["final/AP"] == [(100, 50.0)] and shown[1].tags["state"] == "done"


def test_interrupting_watch_leaves_what_was_exported(
    folder: RunsFolder, tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.time, "sleep", interrupt)
    monkeypatch.setattr("sys.argv", ["export.py", f"to={tool}", f"runs={folder.root}", "watch=true"])
    assert cli.run(export.main, "") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert len(read(folder, tool)) == 2
    assert export_once(folder, tool)[1].curves["train/loss"] == logged(folder, "loss")


def test_the_report_ignores_what_is_exported_beside_the_runs(folder: RunsFolder, tool: str) -> None:
    before = collect(folder.root).problems
    export_once(folder, tool)
    assert collect(folder.root).problems == before


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_exported(
    folder: RunsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.root / folder.path("baseline", 0) / "evaluations.jsonl").write_text("{}\n")
    _, runs, _ = read_folder(folder.root)
    with pytest.raises(UserError, match=r"evaluations.jsonl: a line has no integer field 'iteration'"):
        export_run(runs[0], [], folder.root / runs[0].path)
    pytest.importorskip("tensorboard", reason="needs pip install -e '.[tensorboard]'")
    assert [shown.name for shown in export_once(folder, "tensorboard")] == [folder.path("both", 0)]
    (line,) = capsys.readouterr().err.splitlines()
    path = folder.path("baseline", 0)
    assert line == f"problem: {path}/evaluations.jsonl: a line has no integer field 'iteration'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give to=, the tool to export to; valid: "),
        (["to=excel"], "unknown tool 'excel'; valid: "),
        (["to=tensorboard", "watch=yes"], "argument 'watch' is 'yes'; it must be true or false"),
        (["to=tensorboard", "runs=gone"], "gone: no such folder; runs= must name a folder of runs"),
        (["to=tensorboard", "runs=empty"], "empty: no runs and no grids in this folder"),
        (["to=tensorboard", "runs=waiting"], "waiting: none of its runs has started; nothing to export"),
        (["to=tensorboard", "runs=records"], "out= must be given for the records in runs=records"),
    ],
)
def test_bad_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    if "runs=" in " ".join(arguments):
        pytest.importorskip("tensorboard", reason="needs pip install -e '.[tensorboard]'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "records").mkdir()
    (tmp_path / "records/SHA256SUMS").touch()
    waiting = RunsFolder(tmp_path / "waiting")
    waiting.ask("both", 0)
    waiting.manifest()
    with pytest.raises(UserError) as error:
        export.main(arguments)
    assert message in str(error.value)
    assert not (tmp_path / "waiting/tensorboard").exists()


def test_a_missing_package_is_named(folder: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in export.TRACKERS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf"to={name}: needs the package {name}; pip install '{name}'"):
            export.main([f"to={name}", f"runs={folder.root}"])

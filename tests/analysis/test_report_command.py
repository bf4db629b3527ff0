"""The report command: check=true, its errors and exit codes, and how it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis import report
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn import cli as command
from dynamic_rcnn.errors import UserError
from tests.analysis.synthetic import ablation, write_report


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_check_passes_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'R.md'}", "check=true"]) == 0
    assert snapshot(tmp_path) == before
    assert capsys.readouterr() == (f"{tmp_path / 'R.md'}: up to date\n", "")


def test_problems_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablation(tmp_path / "runs")
    (tmp_path / "runs/notes").write_text("mine")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    message = capsys.readouterr()
    assert message.out.endswith(", 1 problem\n") and message.err == "problem: notes: not part of a run; ignored\n"


def check_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'R.md'}", "check=true"]) == 1
    assert snapshot(tmp_path) == before
    message = capsys.readouterr()
    assert message.out == "" and message.err.count("\n") == 1
    return message.err


def test_check_names_the_first_differing_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ablation(tmp_path / "runs")
    out = tmp_path / "R.md"
    assert check_fails(tmp_path, capsys) == f"{out}: missing\n"
    write_report(tmp_path / "runs", out)
    (page,) = (tmp_path / "R_files").glob("*.md")
    text = page.read_text()
    page.write_text(text.replace("41.00 ± 1.00", "41.50 ± 1.00", 1))
    line = 1 + text[: text.index("41.00 ± 1.00")].count("\n")
    message = check_fails(tmp_path, capsys)
    assert (
        message.startswith(f"{page}: line {line} is '| baseline: neither")
        and "41.50 ± 1.00" in message.split("records give")[0]
    )
    page.write_text(text)
    main = out.read_text()
    out.write_text(main + "more\n")
    assert f"{out}: line " in (message := check_fails(tmp_path, capsys)) and "the records give ''" in message
    out.write_text(main)
    (tmp_path / "runs" / folder.path("dla", 1) / "metrics.json").unlink()
    assert f"{out}: line 7 is " in check_fails(tmp_path, capsys)


def test_check_finds_a_figure_of_other_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    log = tmp_path / "runs" / folder.path("dla", 1) / "train.jsonl"
    log.write_text(log.read_text().replace('"beta": 1.0', '"beta": 0.9'))
    assert check_fails(tmp_path, capsys).endswith("-training-state.svg: not drawn from these records\n")


ERRORS = {
    "key": (["run=x"], "unknown argument 'run'; valid: against, check, out, runs"),
    "form": (["runs"], "argument 'runs' is not of the form name=value; valid: against, check, out, runs"),
    "boolean": (["check=maybe"], "argument 'check' is 'maybe'; it must be true or false"),
    "empty": (["out="], "argument 'out' is empty; give a value: out=..."),
    "out": (
        ["out=no/such/folder/R.md"],
        "out=no/such/folder/R.md: must name a file in an existing folder, ending in .md",
    ),
    "ending": (
        ["out=page.html"],
        "out=page.html: must name a file in an existing folder, ending in .md",
    ),
    "folder": (["runs=nothing"], "nothing: no such folder; runs= must name a folder of runs"),
    "bare": (["runs=bare"], "bare: no runs and no grids in this folder; create some with"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_arguments_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    arguments, expected = ERRORS[name]
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        report.main(arguments)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_the_default_report_is_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablation(tmp_path / "runs")
    for _ in range(2):  # the second time the folder holds a report
        assert report.main([f"runs={tmp_path / 'runs'}"]) == 0
        printed = capsys.readouterr().out.splitlines()
        files = f"{tmp_path / 'runs/REPORT.md'}, {tmp_path / 'runs/report.html'}"
        assert printed[-1] == f"{files}: 1 grid, 13 runs, 0 problems"
        (both,) = (line for line in printed if line.startswith("both: "))
        assert " ".join(both.split()) == (
            "both: DLA + DSL 3 51.00 50.00 50.00 22.00 +10.00 [+9.00, +11.00] +10.00 [+8.00, +12.00]"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "REPORT.md",
        "REPORT_files",
        "report.html",
        "shapes",
    }
    assert report.main([f"runs={tmp_path / 'runs'}", "check=true"]) == 0


def test_a_report_of_records_needs_out() -> None:
    records = ROOT / "analysis/records"
    with pytest.raises(
        UserError, match=r"^out= must be given for the records in runs=.*analysis/records: reports must not"
    ):
        report.main([f"runs={records}"])
    assert not (records / "REPORT.md").exists()


def test_a_name_that_is_not_utf8_is_an_error_of_one_line(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    with pytest.raises(UserError, match=r"out='.*udcff.md': its name is not valid UTF-8; choose another name"):
        report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path}/\udcff.md"])


@pytest.mark.parametrize("name", ["R.md", "r.html", "pipe.md"])
def test_a_file_that_is_not_a_report_is_not_replaced(tmp_path: Path, name: str) -> None:
    ablation(tmp_path / "runs")
    if name == "pipe.md":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text("mine")
    out = tmp_path / (name if name.endswith(".md") else "R.md")
    with pytest.raises(UserError, match=f"{name}: not a report of this suite; move it away or choose"):
        report.main([f"runs={tmp_path / 'runs'}", f"out={out}"])
    assert not (tmp_path / "R_files").exists()
    assert name == "pipe.md" or (tmp_path / name).read_text() == "mine"


def run_command(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_script_runs_from_any_folder_with_its_exit_codes(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    script = str(ROOT / "analysis/report.py")
    result = run_command([script, "runs=runs", "out=R.md"], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\nR.md, r.html: 1 grid, 13 runs, 0 problems\n")
    assert (tmp_path / "R.md").exists()
    wrong = run_command([script, "seeds=3"], tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown argument 'seeds'; valid: against, check, out, runs\n"


def test_a_full_disk_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_disk(_: Sequence[str]) -> int:
        raise OSError(28, "No space left on device", "REPORT.md")

    monkeypatch.setattr(sys, "argv", ["report.py"])
    assert command.run(full_disk, "usage") == 2
    assert capsys.readouterr().err == "error: REPORT.md: No space left on device\n"


def test_ctrl_c_prints_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: Sequence[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["report.py"])
    assert command.run(interrupted, "usage") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_as_a_module_without_torch(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    program = (
        "import sys; from analysis import report, records\n"
        f"assert report.main(['runs={tmp_path / 'runs'}', 'out={tmp_path / 'R.md'}']) == 0\n"
        "heavy = {'torch', 'torchvision', 'mmdet', 'mmengine', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = run_command(["-c", program], ROOT)
    assert result.returncode == 0, result.stderr
    helped = run_command(["-m", "analysis.report", "--help"], ROOT)
    assert helped.returncode == 0 and "check=true" in helped.stdout


def test_the_committed_report_agrees_with_the_committed_records(capsys: pytest.CaptureFixture[str]) -> None:
    if not (ROOT / "analysis/records").is_dir():
        pytest.skip("no records are committed yet: analysis/records does not exist")
    assert report.main(["check=true"]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_committed_report_is_small(tmp_path: Path) -> None:
    assert report.main([f"runs={ROOT / 'analysis/records'}", f"out={tmp_path / 'R.md'}"]) == 0
    assert (tmp_path / "r.html").stat().st_size <= 2_000_000
    assert len((tmp_path / "R.md").read_text().splitlines()) <= 200

"""The report command: its numbers, its bytes, check=true, and its errors."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from analysis import command, report
from analysis.collect import collect
from analysis.command import ROOT
from analysis.page import build
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import locked

from .synthetic import ARMS, RunsFolder, ablation


def markdown(runs: Path) -> str:
    return build(collect(runs), "REPORT_files").markdown


def write_report(runs: Path, out: Path) -> str:
    assert report.main([f"runs={runs}", f"out={out}"]) == 0
    return out.read_text(encoding="utf-8")


def row_of(text: str, heading: str, start: str) -> list[str]:
    """The cells of the first table row below `heading` that begins with `start`."""
    lines = text[text.index(heading) :].splitlines()
    return [
        cell.strip()
        for cell in next(line for line in lines if line.startswith(f"| {start}")).split("|")[1:-1]
    ]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_hand_computed_numbers_are_in_the_tables(tmp_path: Path) -> None:
    """AP 40 41 42 against 50 51 52: sd 1 in every arm, df 8; half width 1.8595 sqrt(2/3) = 1.5183."""
    ablation(tmp_path)
    text = markdown(tmp_path)
    assert row_of(text, "### Ablation", "baseline")[1:4] == ["3 done", "3", "41.00 ± 1.00"]
    assert row_of(text, "### Ablation", "both")[3] == "51.00 ± 1.00"
    assert row_of(text, "### Ablation", "both")[-1] == "22.00 ± 2.00"
    assert row_of(text, "### Difference", "both")[1] == "**+10.00**<br>[+8.48, +11.52]"
    assert row_of(text, "### Difference", "dla")[1] == "+1.00<br>[-0.52, +2.52]"
    assert row_of(text, "### Difference", "pooled sd")[1] == "1.00 (8)"
    assert row_of(text, "### Difference", "sd of the difference by seed, both (3 pairs)")[1] == "0.00"
    assert row_of(text, "### Runs", "both | 2")[-2:] == ["52.00", "24.00"]


def test_the_reading_claims_no_more_than_the_intervals(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    assert "**dla**: AP +1.00 [-0.52, +2.52], cannot be told apart from the baseline;" in text
    assert "**both**: AP +10.00 [+8.48, +11.52], above the baseline;" in text
    assert "neither confirms nor refutes a number on COCO" in text
    assert "All runs start from the weights of one run (`aaaaaaaaaa`)" in text


def test_one_seed_gives_no_interval(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for arm, ap in (("baseline", 0.4), ("both", 0.5)):
        folder.done(arm, 0, ap)
    folder.manifest(arms={arm: ARMS[arm] for arm in ("baseline", "both")})
    text = markdown(tmp_path)
    assert row_of(text, "### Difference", "both")[1] == "+10.00"
    assert "AP +10.00, noise not known (one seed an arm)" in text
    assert "told apart from the baseline;" not in text and "**+10.00**" not in text


def test_the_paper_stands_apart_and_is_marked(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    heading = "### The paper's numbers: COCO, NOT comparable with shapes"
    assert row_of(text, heading, "both")[1:] == [
        *("38.9 (+1.9)", "57.3 (-0.7)", "53.6 (+0.1)", "47.4 (+1.4)", "36.3 (+3.7)", "15.2 (+5.5)")
    ]
    assert row_of(text, heading, "dsl")[3] == "53.5 (0.0)"


def test_claims_are_not_run_without_coco(tmp_path: Path) -> None:
    ablation(tmp_path)
    text = markdown(tmp_path)
    command = "`python experiments/launch.py grid=ablation dataset=coco dataset.root=/data/coco`"
    for claim in ("38.9 AP", "+1.9 AP over", "+5.5 AP90 over", "no extra overhead"):
        assert row_of(text, "headline claims", claim)[2:] == ["**NOT RUN**", command]


def test_claims_on_coco_get_numbers_but_no_verdict_yet(tmp_path: Path) -> None:
    ablation(tmp_path)
    coco = RunsFolder(tmp_path, "coco")
    for seed in range(2):
        coco.done("baseline", seed, 0.37 + seed / 1000)
        coco.done("both", seed, 0.389 + seed / 1000)
    coco.manifest()
    text = markdown(tmp_path)
    assert row_of(text, "headline claims", "38.9 AP")[2:] == [
        "measured 38.95 ± 0.07 (n = 2)",
        "decision rule not applied yet",
    ]
    assert row_of(text, "headline claims", "+1.9 AP")[2].startswith(
        "measured +1.90, 90% interval [+1.69, +2.11]"
    )
    assert (
        "(0.0%; mean of the medians of 2 runs and 2 runs)" in row_of(text, "headline claims", "no extra")[2]
    )
    shapes_part = text[text.index("other data sets show") : text.index("## Which component")]
    assert "coco" not in shapes_part.lower()
    assert "COCO: no grid on it" not in text


def test_missing_failed_and_running_runs_are_shown(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    for seed in range(2):
        folder.done("baseline", seed, 0.4)
    folder.done("both", 0, 0.5)
    folder.start("both", 1, "failed", cause="NaN", iteration=40)
    folder.ask("both", 2)
    held = folder.start("dsl", 0, "running", iteration=20)
    folder.ask("dla", 0)
    folder.manifest()
    with locked(held):
        text = markdown(tmp_path)
    assert row_of(text, "### Ablation", "both")[1:4] == ["1 done, 1 failed (NaN), 1 missing", "1", "50.00"]
    assert row_of(text, "### Ablation", "dla")[1:4] == ["1 missing", "0", "–"]
    assert row_of(text, "### Ablation", "dsl")[1:4] == ["1 running", "0", "–"]
    assert row_of(text, "### Runs", "both | 1")[3] == "failed (NaN) at iteration 40 of 100"
    assert row_of(text, "### Runs", "dsl | 0")[3] == "running at iteration 20 of 100"
    assert row_of(text, "### Runs", "both | 2")[2:5] == [
        "`" + folder.path("both", 2)[-10:] + "`",
        "missing",
        "–",
    ]
    assert "- shapes-ablation-0123456789: both, seed 1: failed (NaN)" in text
    assert "- shapes-ablation-0123456789: dla, seed 0: missing" in text


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_figures_of_a_half_finished_grid(tmp_path: Path) -> None:
    """Arms without a finished run, one seed, curves that log null: drawn all the same."""
    folder = RunsFolder(tmp_path / "runs")
    log = folder.done("baseline", 0, 0.4) / "train.jsonl"
    log.write_text(re.sub(r'"(T|beta)": [0-9.]+', r'"\1": null', log.read_text()))
    folder.done("both", 0, 0.5)
    folder.ask("dla", 0)
    folder.manifest()
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert len(list((tmp_path / "R_files").iterdir())) == 3


def test_nothing_finished_yet(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.ask("baseline", 0)
    folder.manifest()
    page = build(collect(tmp_path), "REPORT_files")
    assert "No run of this grid has finished" in page.markdown and page.figures == []


def test_text_of_records_is_escaped(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.start("dla", 0, "failed", cause="<b>|a_b*\nc")
    folder.manifest()
    text = markdown(tmp_path)
    assert r"failed (&lt;b&gt;\|a\_b\* c)" in text and "<b>" not in text


def test_same_records_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ablation(tmp_path / "runs")
    (tmp_path / "runs/shapes/both/stray").write_text("")
    (tmp_path / "runs/astray").write_text("")
    shutil.copytree(tmp_path / "runs", tmp_path / "elsewhere/other")
    first = write_report(tmp_path / "runs", tmp_path / "REPORT.md")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "REPORT_files").iterdir()}
    ordered = Path.iterdir

    def shuffled(self: Path) -> Sequence[Path]:
        return random.Random(0).sample(children := list(ordered(self)), len(children))

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert write_report(tmp_path / "elsewhere/other", tmp_path / "elsewhere/REPORT.md") == first
    again = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere/REPORT_files").iterdir()}
    assert again == kept and len(kept) == 3
    assert str(tmp_path) not in first + str(kept)


def test_links_lead_to_the_figures(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    text = write_report(tmp_path / "runs", tmp_path / "my.page.md")
    links = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert len(links) == 3
    for link in links:
        assert link.startswith("my.page_files/")
        assert (tmp_path / link).read_text(encoding="utf-8").startswith("<?xml")


def test_figures_no_longer_linked_go_and_foreign_ones_stay(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    old = tmp_path / "R_files/shapes-ablation-0123456789-training.svg"
    old.rename(old.with_name("old.svg"))
    (tmp_path / "R_files/mine.svg").write_text("<svg/>")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert old.exists() and (tmp_path / "R_files/mine.svg").exists()
    assert not old.with_name("old.svg").exists()


def test_check_passes_and_writes_nothing(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    before = snapshot(tmp_path)
    assert report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'R.md'}", "check=true"]) == 0
    assert snapshot(tmp_path) == before


def check_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert report.main([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'R.md'}", "check=true"]) == 1
    assert snapshot(tmp_path) == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_check_names_the_first_differing_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ablation(tmp_path / "runs")
    out = tmp_path / "R.md"
    assert check_fails(tmp_path, capsys) == f"{out}: missing\n"
    text = write_report(tmp_path / "runs", out)
    out.write_text(text.replace("41.00 ± 1.00", "41.50 ± 1.00", 1))
    line = 1 + text[: text.index("41.00 ± 1.00")].count("\n")
    said = check_fails(tmp_path, capsys)
    assert (
        said.startswith(f"{out}: line {line} is '| baseline: neither")
        and "41.50 ± 1.00" in said.split("records say")[0]
    )
    out.write_text(text + "more\n")
    assert "the records say ''" in check_fails(tmp_path, capsys)
    out.write_text(text)
    (tmp_path / "runs" / folder.path("dla", 1) / "metrics.json").unlink()
    assert f"{out}: line 3 is " in check_fails(tmp_path, capsys)


def test_check_sees_a_figure_of_other_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    log = tmp_path / "runs" / folder.path("dla", 1) / "train.jsonl"
    log.write_text(log.read_text().replace('"beta": 1.0', '"beta": 0.9'))
    assert check_fails(tmp_path, capsys).endswith("-t-and-beta.svg: not drawn from these records\n")


ERRORS = {
    "key": (["run=x"], "unknown argument 'run'; valid: check, out, runs"),
    "form": (["runs"], "argument 'runs' is not of the form key=value; valid: check, out, runs"),
    "boolean": (["check=maybe"], "argument 'check' is 'maybe'; it must be one of true, false"),
    "empty": (["out="], "argument 'out' is empty; give a value: out=..."),
    "out": (
        ["out=no/such/folder/R.md"],
        "no/such/folder/R.md: cannot be the report; out= must name a file in a",
    ),
    "folder": (["runs=nothing", "out=R.md"], "nothing: no such folder; runs= must name a folder of runs"),
    "bare": (["runs=bare", "out=R.md"], "bare: no run and no grid in this folder; make some with"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    arguments, expected = ERRORS[name]
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        report.main(arguments)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def run_command(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_by_path_from_any_folder_and_exit_codes(tmp_path: Path) -> None:
    ablation(tmp_path / "runs")
    script = str(ROOT / "analysis/report.py")
    result = run_command([script, "runs=runs", "out=R.md"], tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "R.md: 1 grid, 13 runs, 0 problems\n"
    assert (tmp_path / "R.md").exists()
    wrong = run_command([script, "seeds=3"], tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown argument 'seeds'; valid: check, out, runs\n"


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full_disk(_: Sequence[str]) -> int:
        raise OSError(28, "No space left on device", "REPORT.md")

    monkeypatch.setattr(sys, "argv", ["report.py"])
    assert command.run("usage", full_disk) == 2
    assert capsys.readouterr().err == "error: REPORT.md: No space left on device\n"


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


def test_the_committed_report_is_what_the_committed_records_say(capsys: pytest.CaptureFixture[str]) -> None:
    if not (ROOT / "analysis/records").is_dir():
        pytest.skip("no records are committed yet: analysis/records does not exist")
    assert report.main(["check=true"]) == 0, capsys.readouterr().err

"""`analysis/report.py against=FOLDER`: the table on the terminal, the report's section, and what is not compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis import report
from dynamic_rcnn.errors import UserError
from tests.analysis.stats.test_replication import fill
from tests.analysis.synthetic import RunsFolder, row_of


def test_the_table_is_on_the_terminal_and_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "here", shift=-3.0)
    fill(tmp_path / "there", seeds=range(5))
    out = tmp_path / "REPORT.md"
    assert report.main([f"runs={tmp_path / 'here'}", f"out={out}", f"against={tmp_path / 'there'}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    start = printed.index(f"what reproduced, compared with {tmp_path / 'there'}:")
    assert printed[start + 1].split()[:5] == ["grid", "result", "metric", "here", "there"]
    (gain,) = (line for line in printed[start:] if "both minus baseline" in line and " AP " in line)
    # sds of the differences 0.1 and 0.1581, pooled 0.1414 on 6 degrees of freedom: 1.9432 x 0.1414 x sqrt(1/3 + 1/5)
    assert " ".join(gain.split()) == (
        "ablation both minus baseline AP +2.10 (3) +2.20 (5) 1.0 -0.10 [-0.30, +0.10] yes REPRODUCED"
    )
    assert (
        printed[-1]
        == "ablation (shapes): 4 of 6 results REPRODUCED, 2 NOT REPRODUCED, within the printed intervals: 4 of 6; "
        "significant gaps (p < 0.05): 2 of 6"
    )
    text = out.read_text(encoding="utf-8")
    heading = f"## What reproduced, compared with `{tmp_path / 'there'}`"
    assert row_of(text, heading, "both minus baseline")[1:] == [
        *("AP", "+2.10 (3)", "+2.20 (5)", "1.0", "-0.10<br>[-0.30, +0.10]", "yes", "REPRODUCED")
    ]
    assert text.index("## What was asked") < text.index(heading) < text.index("## The paper's headline claims")
    assert (tmp_path / "REPORT_files/tables/against-which-component-does-it-shapes.csv").is_file()


def test_what_cannot_be_compared_is_named_and_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "here")
    fill(tmp_path / "there", code="0ther0c0de")
    out = tmp_path / "REPORT.md"
    assert report.main([f"runs={tmp_path / 'here'}", f"out={out}", f"against={tmp_path / 'there'}"]) == 0
    line = "ablation (shapes): not compared: other code: c0dec0dec0 here and 0ther0c0de there"
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert f"\n- {line}\n" in out.read_text(encoding="utf-8")


def test_without_a_finished_run_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunsFolder(tmp_path / "here")
    folder.ask("baseline", 0)
    folder.manifest()
    fill(tmp_path / "there")
    arguments = [f"runs={tmp_path / 'here'}", f"out={tmp_path / 'REPORT.md'}", f"against={tmp_path / 'there'}"]
    assert report.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No grid of these runs has finished runs to compare."


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    with pytest.raises(UserError, match="no such folder; against= must name a folder of runs"):
        report.main([f"runs={tmp_path / 'here'}", f"out={tmp_path / 'R.md'}", f"against={tmp_path / 'none'}"])

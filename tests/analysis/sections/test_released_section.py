"""The report on evaluated weights: a verdict by their own rule, separate from runs that were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.sections.claims import RELEASED
from tests.analysis.synthetic import RunsFolder, ablation, edit_json, write_report

PAPER = {
    "table": "mmdet's released model",
    "source": "one run",
    "dataset": "COCO val2017, R-50-FPN, 1x",
    "weights": RELEASED,
    "rows": {"released": {"AP": 38.9}},
}
SHA256 = RELEASED + "0" * 56
CLAIM = "38.9 AP, released weights re-tested"


def evaluated(root: Path, ap: float | None, dataset: str = "coco", sha256: str = SHA256, **changes: Any) -> RunsFolder:
    """Make a folder with an evaluation; if ap is None, it has not run."""
    file = {"sha256": sha256, "file": "/data/x.pth"}
    folder = RunsFolder(root, dataset, {"init": file, "task": "evaluate"})
    if ap is None:
        folder.ask("released", 0)
    else:
        run = folder.done("released", 0, ap)
        edit_json(run / "status.json", iteration=0, max_iterations=0)
        (run / "train.jsonl").unlink()
    weights = {"name": "x.pth", "sha256": sha256}
    content = {"task": "evaluate", "weights": weights, "base": "faster_rcnn_r50_fpn_1x", "changed": [], "paper": PAPER}
    arms = {"baseline": "released", "arms": {"released": "weights from a file"}}
    folder.manifest("released", **{**content, **arms, **changes})
    return folder


def claim(report: str) -> str:
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {CLAIM} |")]
    return line


@pytest.mark.parametrize(
    ("ap", "verdict"), [(0.3894, "REPRODUCED"), (0.3884, "NOT REPRODUCED"), (0.3896, "HIGHER THAN CLAIMED")]
)
def test_the_verdict_on_the_released_weights(tmp_path: Path, ap: float, verdict: str) -> None:
    evaluated(tmp_path / "runs", ap)
    report = write_report(tmp_path / "runs", tmp_path / "R.md")
    assert f"**{verdict}**: measured {100 * ap:.2f}, margin 0.05" in claim(report)
    (section,) = [part for part in report.split("\n## ") if "| released | AP | 38.9 |" in part]
    assert f"| released | AP | 38.9 | **{verdict}**: measured {100 * ap:.2f}" in section
    assert f"`x.pth` (sha256 `{SHA256}`) was evaluated" in section
    assert "±" not in section and "ifference" not in section


def test_the_command_is_shown_before_it_has_run(tmp_path: Path) -> None:
    evaluated(tmp_path / "runs", None)
    report = write_report(tmp_path / "runs", tmp_path / "R.md")
    assert claim(report).endswith("| **NOT RUN** | `released` |")
    assert "`python experiments/launch.py grid=released dataset=coco" in report
    assert "| released | AP | 38.9 | **NOT RUN** |" in report


def test_other_weights_other_settings_and_other_data_are_not_comparable(tmp_path: Path) -> None:
    for number, (changes, reason) in enumerate(
        [
            ({"sha256": "1" * 64}, "weights `x.pth` (sha256 `11111111`), not `62a3f276`"),
            ({"changed": ["base.model.test_cfg.rpn.nms.iou_threshold"]}, "changed: `base.model.test_cfg.rpn.nms"),
            ({"base": "shapes_r18_fpn"}, "base `shapes_r18_fpn`"),
        ]
    ):
        evaluated(tmp_path / f"runs{number}", 0.389, **changes)
        report = write_report(tmp_path / f"runs{number}", tmp_path / "R.md")
        assert "NOT COMPARABLE: setting" in claim(report) and reason in claim(report)
        assert f"**NOT COMPARABLE**: {reason}" in report.split("### The printed numbers")[1]
    evaluated(tmp_path / "shapes", 0.389, dataset="shapes")
    report = write_report(tmp_path / "shapes", tmp_path / "R.md")
    assert "**NOT RUN**" in claim(report) and "**NOT COMPARABLE**: data set `shapes`" in report


def test_another_number_of_images_than_val2017s(tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "runs", 0.389)
    edit_json(folder.root / folder.path("released", 0) / "metrics.json", images=4999)
    report = write_report(tmp_path / "runs", tmp_path / "R.md")
    assert "**NOT COMPARABLE: evaluated on 4999 images; val2017 has 5000**" in claim(report)


def test_an_evaluation_does_not_change_the_section_of_trained_runs(tmp_path: Path) -> None:
    """The ablation's page has the same bytes with and without an evaluation beside it."""
    ablation(tmp_path / "runs")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    page = tmp_path / "R_files/shapes-ablation-0123456789.md"
    alone = page.read_bytes()
    evaluated(tmp_path / "runs", 0.9, dataset="shapes")
    write_report(tmp_path / "runs", tmp_path / "R.md")
    assert page.read_bytes() == alone
    assert claim(write_report(tmp_path / "runs", tmp_path / "R.md")).count("NOT RUN") == 1


def test_coco_counts_as_not_run_while_weights_were_evaluated_only(tmp_path: Path) -> None:
    evaluated(tmp_path / "runs", 0.389)
    assert "COCO: these records have no grid that trains on it" in write_report(tmp_path / "runs", tmp_path / "R.md")


def test_a_manifest_without_weights_is_a_problem(tmp_path: Path) -> None:
    evaluated(tmp_path / "runs", 0.389, weights=None)
    report = write_report(tmp_path / "runs", tmp_path / "R.md")
    assert "weights=None: must be given for task 'evaluate'" in report.replace("\\", "")

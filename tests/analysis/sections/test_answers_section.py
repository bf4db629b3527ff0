"""The first section: what it says about the data, and about COCO."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.synthetic import RunsFolder, markdown


def first_section(runs: Path) -> str:
    return markdown(runs).split("\n## ")[1]


@pytest.mark.parametrize("dataset", ["shapes", "shapes_tiny"])
def test_coco_is_not_run_without_records_of_it(tmp_path: Path, dataset: str) -> None:
    folder = RunsFolder(tmp_path, dataset)
    folder.done("baseline", 0, 0.4)
    folder.manifest()
    text = first_section(tmp_path)
    assert f"Measured on {dataset}, images that the suite draws".replace("_", "\\_") in text
    assert "the paper's claims are decided: **NOT RUN**. `python experiments/launch.py grid=ablation" in text


def test_runs_on_coco_are_counted_and_have_verdicts(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path, dataset="coco")
    for arm, ap in (("baseline", 0.37), ("both", 0.389)):
        folder.done(arm, 0, ap)
    folder.ask("both", 1)
    folder.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    text = first_section(tmp_path)
    assert "Measured on coco. " in text
    (line,) = (line for line in text.splitlines() if "claims are decided" in line)
    assert "decided: 2 of 3 runs done; 38.9 AP: **INCONCLUSIVE" in line and "NOT RUN" not in line

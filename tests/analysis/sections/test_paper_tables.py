"""The section on the paper's tables: NOT RUN with the command, or how many runs are done."""

from __future__ import annotations

from pathlib import Path

from analysis.reading.run_table import collect
from analysis.rendering import markdown
from analysis.sections.page import TABLES, paper_tables
from analysis.stats.comparison import Comparison
from experiments.config.conf_files import CONF
from tests.analysis.synthetic import RunsFolder


def rows(root: Path) -> dict[str, list[str]]:
    records = collect(root)
    table = paper_tables([Comparison(records, grid) for grid in records.grids])
    return {str(row[1].text): [markdown.inline(cell.text) for cell in row] for row in table.rows}


def test_each_table_has_an_existing_grid() -> None:
    assert [name for name in TABLES if not (CONF / "grid" / f"{name}.yaml").exists()] == []


def test_without_coco_every_table_is_not_run(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.4)
    folder.manifest()
    found = rows(tmp_path)
    assert {row[2] for row in found.values()} == {"**NOT RUN**"}
    assert all(f"grid={name} dataset=coco" in row[3] for name, row in found.items())


def test_on_coco_only_the_published_setting_counts(tmp_path: Path) -> None:
    coco = RunsFolder(tmp_path, "coco")
    coco.done("baseline", 0, 0.37)
    coco.ask("both", 0)
    manifest = coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=[])
    assert rows(tmp_path)["ablation"][2] == "1 of 2 runs done; its section has the verdicts on the printed values"
    assert rows(tmp_path)["beta"][2] == "**NOT RUN**"
    coco.manifest("controls", base="faster_rcnn_r50_fpn_1x", changed=[], paper=None)
    assert rows(tmp_path)["controls"][2] == "1 of 2 runs done"
    manifest.unlink()
    coco.manifest(base="faster_rcnn_r50_fpn_1x", changed=["base.train.batch_size"])
    assert rows(tmp_path)["ablation"][2] == "**NOT RUN**; 1 grid with another setting or device, NOT COMPARABLE"


def test_tables_3_and_4_are_claims_of_equivalence_that_can_fail(tmp_path: Path) -> None:
    """Differences of 0 and 0.2 against 0.3: error sqrt(2/3) x sd; with the third arm 0.6 away the claim fails."""
    for last, verdict in ((0.381, "EQUIVALENT"), (0.375, "DIFFERENT")):
        coco = RunsFolder(tmp_path / verdict, "coco")
        for arm, ap in (("ki_64", 0.381), ("ki_75", 0.381), ("ki_100", last)):
            for seed in range(3):
                coco.done(arm, seed, ap + seed / 1000 + (arm == "ki_64" and seed == 1) / 5000)
        arms = {arm: arm for arm in ("ki_64", "ki_75", "ki_100")}
        claims = [{"arms": list(arms), "margins": {"AP": 0.3}}]
        published = {"base": "faster_rcnn_r50_fpn_1x", "changed": [], "baseline": "ki_75", "paper": None}
        coco.manifest("iou_topk", arms=arms, equivalence=claims, **published)
        found = rows(tmp_path / verdict)["iou_topk"][2]
        assert found == f"9 of 9 runs done<br>ki\\_64, ki\\_75, ki\\_100 within 0.3 AP: **{verdict}**."
    coco.start("ki_100", 3, "failed", "NaN")
    coco.manifest("iou_topk", arms=arms, equivalence=claims, **published)
    assert "**NOT COMPARABLE: 1 run of ki\\_100 failed (NaN)" in rows(tmp_path / verdict)["iou_topk"][2]

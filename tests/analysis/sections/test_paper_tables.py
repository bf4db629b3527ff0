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

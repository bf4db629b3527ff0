"""The forest plot: which comparisons it has, and their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from analysis.rendering.model import Band
from analysis.rendering.plots import draw
from analysis.sections.forest import forest_figure
from analysis.stats.comparison import Comparison
from tests.analysis.synthetic import ARMS, RunsFolder, ablation, edit_json

FACTORIAL = {"DLA": ["dla", "both"], "DSL": ["dsl", "both"]}


def compare(folder: RunsFolder) -> Comparison:
    records = collect(folder.root)
    return Comparison(records, records.grids[0])


def test_its_rows_are_the_differences_the_contrasts_and_the_effects(tmp_path: Path) -> None:
    """Means are 41, 42, 41 and 51 (see `ablation`): the effect of DLA is (1 + 10) / 2, the interaction 10 - 1 - 0."""
    folder = ablation(tmp_path)
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, factorial=FACTORIAL, contrasts=[["both", "dla"]])
    figure = forest_figure(compare(folder), list(ARMS))
    assert figure is not None
    ap, ap90 = figure.panels
    assert ap.headings == {"dla": "arm minus baseline", "both minus dla": "contrasts", list(ap.curves)[4]: "factors"}
    assert [round(band.middle[0], 6) for band in ap.curves.values()] == [1, 0, 10, 9, 5.5, 4.5, 9]
    assert list(ap90.curves) == list(ap.curves) and ap90.headings == ap.headings
    assert ap.curves["both"] == Band([0.0], [pytest.approx(10)], [pytest.approx(9.001052)], [pytest.approx(10.998948)])
    assert "dsl" in ap.hollow and "both" not in ap.hollow
    assert "AP: dla +1.00, dsl 0.00, both +10.00, both minus dla +9.00" in figure.alt
    drawn = draw(figure).svg.decode()
    assert drawn.count(">both minus dla</text>") == drawn.count(">contrasts</text>") == 1
    assert ">+10.00</text>" in drawn and ">arm minus baseline</text>" in drawn


def test_an_arm_without_runs_has_a_row_without_value_and_one_seed_has_no_interval(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.40)
    folder.done("both", 0, 0.42)
    folder.manifest()
    figure = forest_figure(compare(folder), list(ARMS))
    assert figure is not None
    curves = figure.panels[0].curves
    assert list(curves) == ["dla", "dsl", "both"] == list(figure.panels[0].hollow)
    assert curves["both"] == Band([0.0], *[[pytest.approx(2.0)]] * 3) and curves["dla"].middle[0] != 2.0
    assert "AP: dla –, dsl –, both +2.00." in figure.alt
    assert draw(figure).svg.count(">–</text>".encode()) == 4


def test_there_is_none_without_a_difference(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    folder.done("baseline", 0, 0.40)
    folder.manifest()
    assert forest_figure(compare(folder), list(ARMS)) is None

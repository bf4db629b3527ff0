"""The interaction plot of two factors."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from analysis.rendering.plots import draw
from analysis.sections.grid_figures import figures, shown_arms
from analysis.sections.interaction import WITHOUT_INTERACTION, interaction_figure
from analysis.stats.comparison import Comparison
from tests.analysis.sections.test_forest import FACTORIAL, compare
from tests.analysis.synthetic import ARMS, RunsFolder, ablation, edit_json


def test_it_shows_the_four_means_and_where_both_would_be_without_interaction(tmp_path: Path) -> None:
    """AP is 41, 42, 41 and 51, see `ablation`: both would be at 42 + 41 - 41. AP90 is 12, 13, 12 and 22."""
    folder = ablation(tmp_path)
    assert interaction_figure(compare(folder), list(ARMS)) is None
    (manifest,) = tmp_path.glob("*/*.grid.json")
    edit_json(manifest, factorial=FACTORIAL)
    figure = interaction_figure(compare(folder), list(ARMS))
    assert figure is not None
    ap, ap90 = figure.panels
    points = {arm: (band.x[0], round(band.middle[0], 6)) for arm, band in ap.curves.items()}
    assert points == {"baseline": (0, 41), "dla": (1, 42), "dsl": (0, 41), "both": (1, 51)}
    assert ap.joined == {"without DSL": ("baseline", "dla"), "with DSL": ("dsl", "both")}
    assert ap.labels == ("without DLA", "with DLA")
    assert ap.reference[WITHOUT_INTERACTION].middle == [pytest.approx(41), pytest.approx(42)]
    assert ap90.reference[WITHOUT_INTERACTION].middle == [pytest.approx(12), pytest.approx(13)]
    assert f"AP: baseline 41.00, dla 42.00, dsl 41.00, both 51.00; {WITHOUT_INTERACTION}: 42.00." in figure.alt
    assert draw(figure).svg.count(b">with DSL</text>") == 1


def test_of_many_arms_the_factors_and_then_the_contrasts_are_drawn(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path)
    others = [f"other{number}" for number in range(7)]
    for arm in (*others, *ARMS):
        for seed in range(2):
            folder.done(arm, seed, 0.4 + 0.01 * seed)
    pairs = [[arm, "baseline"] for arm in others]
    folder.manifest(arms={arm: arm for arm in (*others, *ARMS)}, factorial=FACTORIAL, contrasts=pairs, paper=None)
    records = collect(tmp_path)
    comparison = Comparison(records, records.grids[0])
    assert shown_arms(comparison) == [*others[:4], *ARMS]
    assert all(draw(figure).svg for figure in figures(records, comparison))

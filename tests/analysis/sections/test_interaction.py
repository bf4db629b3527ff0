"""The interaction plot of two factors."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.rendering.plots import draw
from analysis.sections.interaction import WITHOUT_INTERACTION, interaction_figure
from tests.analysis.sections.test_forest import FACTORIAL, compare
from tests.analysis.synthetic import ARMS, ablation, edit_json


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
    assert draw(figure).svg.count(b"<!-- with DSL -->") == 1

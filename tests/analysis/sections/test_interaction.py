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
from tests.analysis.synthetic import ARMS, RunsFolder, ablation, edit_json, uneven


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


def test_with_different_seeds_it_shows_the_effects_of_the_table(tmp_path: Path) -> None:
    """43 + 1, + 2, + 4: both would be at 44 + 45 - 43 = 46, so the interaction is 1. From the means: 47 - 40.5."""
    comparison = compare(uneven(tmp_path, factorial=FACTORIAL))
    figure = interaction_figure(comparison, list(ARMS))
    assert figure is not None
    for panel in figure.panels:
        found = {arm: band.middle[0] for arm, band in panel.curves.items()}
        assert found == pytest.approx({"baseline": 43, "dla": 44, "dsl": 45, "both": 47})
        assert panel.reference[WITHOUT_INTERACTION].middle == pytest.approx([45, 46])
        interaction = comparison.effects(panel.name)["interaction of DLA and DSL"]
        assert interaction is not None and interaction.value == pytest.approx(1)
    assert comparison.summary("AP", "dla").mean == pytest.approx(41)
    assert f"both 47.00; {WITHOUT_INTERACTION}: 46.00." in figure.alt
    assert "plus their difference from the baseline, estimated by least squares" in str(figure.caption)


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
    drawn = figures(records, comparison)
    assert all(draw(figure).svg for figure in drawn)
    named = [figure.name for figure in drawn if "8 of 11 arms, without other4, other5, other6" in str(figure.caption)]
    assert len(named) == len(drawn) - 2  # the forest plot has all arms, the interaction plot the four of the factors

"""The colours of the arms, stacked bars, matrices."""

from __future__ import annotations

import runpy

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.rendering.model import BARS, MATRIX, Band, Panel
from analysis.rendering.panels import (
    ABLATION_STYLES,
    COLOURS,
    GREY,
    MARKERS,
    arm_styles,
    colours_of,
    draw_panel,
)
from dynamic_rcnn import PROJECT


def test_the_arms_of_the_ablation_have_the_colours_of_the_picture_on_the_front_page() -> None:
    picture = runpy.run_path(str(PROJECT / "docs/picture.py"))["ARMS"]
    own = {arm: COLOURS[style] for arm, style in ABLATION_STYLES.items()}
    assert own == {arm: row[1] for arm, row in picture.items()}


@pytest.mark.parametrize(
    ("arms", "styles"),
    [
        (["baseline", "both", "dla"], [0, 3, 1]),
        (["baseline", "both", "replay", "t_60"], [0, 3, 4, 5]),
        (["k_64", "k_75", "baseline"], [4, 5, 0]),
        (["k_64", "k_75", "k_100"], [0, 4, 5]),
        (["baseline", "both", "dla", "dsl", "t_60", "beta_1_6"], [0, 3, 1, 2, 4, 5]),  # controls
        (["baseline", "beta_1_6", "t_62", "t_62_beta_1_3", "t_62_beta_1_6"], [0, 5, 4, 6, 7]),  # dsl
        ([*"abcdefgh"], [0, 4, 5, 6, 7, 1, 2, 3]),
        ([], []),
    ],
)
def test_an_arm_has_its_colour_whatever_its_place(arms: list[str], styles: list[int]) -> None:
    found = arm_styles(arms)
    assert [found[arm] for arm in arms] == styles and len(COLOURS) == len(MARKERS) == 8


def test_arms_that_no_figure_draws_get_the_colours_that_are_left() -> None:
    drawn = colours_of(["baseline", "both", "dla"], ["dla", "weight_3", "weight_3"])
    own = {"baseline": COLOURS[0], "both": COLOURS[3], "dla": COLOURS[1]}
    assert drawn == {**own, "weight_3": COLOURS[2]}
    full = colours_of([*"abcdefgh"], ["i"])
    assert [full[arm] for arm in "abcdefgh"] == [COLOURS[style] for style in (0, 4, 5, 6, 7, 1, 2, 3)]
    assert full["i"] == GREY


def drawn(panel: Panel) -> Axes:
    ax = Figure().subplots()
    draw_panel(ax, panel, [])
    return ax


def test_bars_are_stacked_in_their_order() -> None:
    curves = {"one": Band([0, 1], [1, 2], [1, 2], [1, 2]), "two": Band([0, 1], [3, 0], [3, 0], [3, 0])}
    ax = drawn(Panel("p", "p", "x", "", curves, BARS, starts_at_zero=False, labels=["first", "second"]))
    bars = [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in ax.patches]
    assert bars == [(0, 1, 0), (0, 2, 1), (1, 3, 0), (2, 0, 1)]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"] and ax.yaxis_inverted()
    assert ax.patches[0].get_facecolor() != ax.patches[2].get_facecolor()


def test_cells_show_their_values_and_are_empty_where_they_round_to_zero() -> None:
    curves = {"a": Band([0, 1], [90, 0.2], [90, 0.2], [90, 0.2]), "b": Band([0, 1], [10, 40], [10, 40], [10, 40])}
    ax = drawn(Panel("p", "p", "x", "", curves, MATRIX, starts_at_zero=False, labels=["a", "not found"]))
    shown = {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts}
    assert shown == {(0.5, 0.5): ("90", "white"), (0.5, 1.5): ("10", "black"), (1.5, 1.5): ("40", "black")}
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "not found"]

"""The colours of the arms."""

from __future__ import annotations

import runpy

import pytest

from analysis.rendering.panels import COLOURS, FIXED_STYLES, MARKERS, arm_styles
from dynamic_rcnn import PROJECT


def test_the_arms_of_the_ablation_have_the_colours_of_the_picture_on_the_front_page() -> None:
    picture = runpy.run_path(str(PROJECT / "docs/picture.py"))["ARMS"]
    assert {arm: COLOURS[style] for arm, style in FIXED_STYLES.items()} == {arm: row[1] for arm, row in picture.items()}


@pytest.mark.parametrize(
    ("arms", "styles"),
    [
        (["baseline", "both", "dla"], [0, 3, 1]),
        (["baseline", "both", "replay", "t_60"], [0, 3, 4, 5]),
        (["k_64", "k_75", "baseline"], [4, 5, 0]),
        (["k_64", "k_75", "k_100"], [0, 4, 5]),
        ([*"abcdefgh"], [0, 4, 5, 6, 7, 1, 2, 3]),
        ([], []),
    ],
)
def test_an_arm_has_its_colour_whatever_its_place(arms: list[str], styles: list[int]) -> None:
    found = arm_styles(arms)
    assert [found[arm] for arm in arms] == styles and len(COLOURS) == len(MARKERS) == 8

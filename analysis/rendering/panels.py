"""Draws panels on matplotlib's axes: prepared numbers, nothing is computed.

Colours of arms are Okabe and Ito's, those of bars Paul Tol's light ones: both are safe for colour-blind readers. Every
arm has its own marker and dashes as well, since lines of different arms may lie on each other. The arms of the paper's
ablation, and those that several grids draw, have the same colours in all figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import findfont, get_font

from analysis.rendering.model import BARS, INTERVALS, MATRIX, ROWS, Band, Panel
from analysis.rendering.text import NOTHING, one_line, signed

FONT = "DejaVu Sans"  # included in matplotlib, and installed with most Linux desktops
COLOURS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31")
ABLATION_STYLES = {"baseline": 0, "dla": 1, "dsl": 2, "both": 3}
FIXED_STYLES = {**ABLATION_STYLES, "beta_1_6": 5}  # controls and dsl draw beta_1_6
GREY = "#666666"  # of what is no arm, and of arms beyond the colours
REFERENCE = "#999999"
REFERENCE_LINE: dict[str, Any] = {"linewidth": 1.4, "linestyle": ":"}
SEGMENTS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#44BB99", "#BBCC33", "#99DDFF", "#DDDDDD")  # Tol's "light"
CELLS = "Greys"
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (6, 2, 2, 2), (1, 1.5), (8, 2, 1, 2, 1, 2))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ERROR_BARS: dict[str, Any] = {"markersize": 4.5, "linewidth": 0.9, "elinewidth": 1.1, "capsize": 2}

Styles = Mapping[str, int]  # arm -> position in COLOURS, and in MARKERS and DASHES modulo their length


def arm_styles(arms: Sequence[str]) -> Styles:
    """Fixed styles, or else the first free one; the first arm gets style 0 unless another arm has it."""
    styles = {arm: FIXED_STYLES[arm] for arm in arms if arm in FIXED_STYLES}
    others = [arm for arm in arms if arm not in styles]
    last_resort = [*range(len(ABLATION_STYLES), len(COLOURS)), *range(len(ABLATION_STYLES))]
    order = [0, *last_resort] if arms and arms[0] in others else last_resort
    free = [style for style in dict.fromkeys(order) if style not in styles.values()]
    return styles | dict(zip(others, free, strict=False))


def colours_of(arms: Sequence[str], more: Sequence[str] = ()) -> dict[str, str]:
    """Arm -> its colour.

    Args:
        arms: those that have a colour in figures.
        more: other arms, which get the colours that are left, or else grey.
    """
    own = {arm: COLOURS[style] for arm, style in arm_styles(arms).items()}
    others = [arm for arm in dict.fromkeys(more) if arm not in own]
    left = [colour for colour in COLOURS if colour not in own.values()]
    return {**own, **dict.fromkeys(others, GREY), **dict(zip(others, left, strict=False))}


def draw_panel(ax: Axes, panel: Panel, arms: Sequence[str]) -> None:
    """Draw one panel. arms: those that have a colour."""
    drawers = {INTERVALS: _draw_intervals, ROWS: _draw_rows, BARS: _draw_bars, MATRIX: _draw_matrix}
    drawers.get(panel.kind, _draw_lines)(ax, panel, arm_styles(arms))
    for label, band in panel.reference.items():
        ax.plot(band.x, band.middle, color=REFERENCE, label=label, zorder=1, **REFERENCE_LINE)
    ax.set_xlabel(panel.xlabel)
    ax.set_ylabel(panel.ylabel)
    if panel.marks_zero:
        ax.axhline(0, color=COLOURS[0], linewidth=1.0)
    ax.set_title(panel.title, loc="left", y=1.0)  # a given y skips the search for a free place
    if panel.ticks is not None:
        ax.set_xticks(panel.ticks, panel.labels or None)
        if panel.labels:
            ax.set_xlim(-0.5, len(panel.labels) - 0.5)
    if panel.starts_at_zero:
        ax.set_ylim(bottom=0)


def _draw_lines(ax: Axes, panel: Panel, styles: Styles) -> None:
    for label, band in panel.curves.items():
        colour, dashes = COLOURS[styles[label]], DASHES[styles[label] % len(DASHES)]
        ax.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(band.x, band.middle, color=colour, label=label, linewidth=1.6, dashes=dashes)


def _draw_intervals(ax: Axes, panel: Panel, styles: Styles) -> None:
    places = {}
    for index, (label, band) in enumerate(panel.curves.items()):
        places[label] = np.array(band.x) + panel.dodge * (index - (len(panel.curves) - 1) / 2)
        style = {"color": COLOURS[styles[label]], "marker": MARKERS[styles[label]], **ERROR_BARS}
        ax.errorbar(places[label], band.middle, _ends(band), label=label, **style)
    for (title, pair), dashes in zip(panel.joined.items(), ("--", "-"), strict=False):
        x = [place for arm in pair for place in places[arm]]
        y = [value for arm in pair for value in panel.curves[arm].middle]
        ax.plot(x, y, color=GREY, label=title, linewidth=1.2, linestyle=dashes, zorder=1)


def _draw_rows(ax: Axes, panel: Panel, styles: Styles) -> None:
    """One row per curve from the top, with headings between them; the value to the right of the panel."""
    place = ax.get_subplotspec()
    is_first = place is not None and place.is_first_col()
    heights: list[int] = []
    height = -1
    for label, band in panel.curves.items():
        if heading := panel.headings.get(label):
            height += 1
            if is_first:
                ax.text(-0.02, height, heading, **_beside(ax, "right"), fontweight="bold")
        height += 1
        heights.append(height)
        _draw_row(ax, height, band, label in panel.hollow, styles.get(label))
    ax.axvline(0, color=COLOURS[0], linewidth=1.0)
    ax.set_yticks(heights, list(panel.curves))
    ax.set_ylim(height + 0.7, -0.7)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.06)


def _draw_row(ax: Axes, height: int, band: Band, is_hollow: bool, style: int | None) -> None:
    value = band.middle[0]
    colour, marker = (GREY, "o") if style is None else (COLOURS[style], MARKERS[style])
    fill = "white" if is_hollow else colour
    if not math.isnan(value):
        own = {"color": colour, "marker": marker, "markerfacecolor": fill, **ERROR_BARS}
        ax.errorbar([value], [height], xerr=_ends(band), **own)
    ax.text(1.02, height, NOTHING if math.isnan(value) else signed(value), **_beside(ax, "left"))


def _draw_bars(ax: Axes, panel: Panel, styles: Styles) -> None:
    """Stacked bars from the top, all in the same colours; the labels beside them."""
    ends = np.zeros(len(panel.labels))
    for (label, band), colour in zip(panel.curves.items(), SEGMENTS, strict=False):
        rows = np.array(band.x, np.int64)
        ax.barh(rows, band.middle, 0.7, ends[rows], label=label, color=colour, edgecolor="#555555", linewidth=0.4)
        ends[rows] += band.middle
    ax.set_yticks(range(len(panel.labels)), panel.labels)
    ax.set_ylim(len(panel.labels) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def _draw_matrix(ax: Axes, panel: Panel, styles: Styles) -> None:
    """Cells with their values, which are from 0 to 100, as whole numbers; those that round to 0 are empty."""
    values = np.array([band.middle for band in panel.curves.values()])
    # The darkest cell is no black, so that the grid is seen
    ax.pcolormesh(values, cmap=CELLS, vmin=0, vmax=130, edgecolors="#dddddd", linewidth=0.4)
    for (row, column), value in np.ndenumerate(values):
        if round(value):
            colour = "white" if value > 65 else "black"
            ax.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(
        np.arange(values.shape[1]) + 0.5,
        list(map(drawable, panel.labels)),
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, list(map(drawable, panel.curves)))
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)
    ax.set_ylim(values.shape[0], 0)
    ax.grid(visible=False)
    ax.tick_params(length=0)


def _beside(ax: Axes, align: str) -> dict[str, Any]:
    """For a text at a fraction of the width and a height in data."""
    return {"transform": ax.get_yaxis_transform(), "ha": align, "va": "center", "fontsize": 9, "clip_on": False}


def _ends(band: Band) -> list[Any]:
    """How far the interval extends below and above the value."""
    middle = np.array(band.middle)
    return [middle - band.low, band.high - middle]


def drawable(text: str) -> str:
    """`text` on one line, with "?" for every character that the figures' font lacks."""
    known = _characters()
    return "".join(character if ord(character) in known else "?" for character in one_line(text))


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())

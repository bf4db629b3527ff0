"""The figures of the report as SVG, the same bytes each time. Plots draw prepared numbers and compute nothing.

Colours are Okabe and Ito's, safe for colour-blind readers. Every arm has its own marker and dashes as well, since lines
of different arms may lie on each other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import findfont, get_font

from analysis.rendering.model import Figure, Panel
from analysis.rendering.text import one_line

COLOURS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (6, 2, 2, 2), (1, 1.5), (8, 2, 1, 2, 1, 2))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ERROR_BARS: dict[str, Any] = {"markersize": 4.5, "linewidth": 0.9, "elinewidth": 1.1, "capsize": 2}
WIDTH = 10.0  # inches
LEFT, RIGHT, BOTTOM, TITLE = (
    0.68,
    0.12,
    0.55,
    0.32,
)  # inches around each panel: y labels, space, x labels, title
FONT = "DejaVu Sans"  # included in matplotlib
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dynamic-rcnn",
    "svg.fonttype": "path",
    "font.family": FONT,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class PanelArea:
    """Where a panel lies, in fractions of the figure from its lower left corner, and the range of its x axis."""

    box: tuple[float, float, float, float]  # x, y, width, height
    span: tuple[float, float]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as SVG, and the areas of its panels."""

    svg: bytes
    areas: list[PanelArea]


def draw(figure: Figure) -> DrawnFigure:
    """Draw a figure, with its identifier in the metadata."""
    rows = -(-len(figure.panels) // figure.columns)
    with rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, figure.height))
        axes = list(canvas.subplots(rows, figure.columns, squeeze=False).flat)
    order = list(figure.panels[0].curves)
    for ax, panel in zip(axes, figure.panels, strict=False):
        draw_panel(ax, panel, order)
    for ax in axes[len(figure.panels) :]:
        ax.set_visible(False)
    _add_legend(canvas, axes[0])
    buffer = io.BytesIO()
    with rc_context(STYLE):
        # Like savefig, which would draw the figure twice
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None, "Identifier": figure.identifier})
    areas = [PanelArea(ax.get_position().bounds, ax.get_xlim()) for ax in axes[: len(figure.panels)]]
    lines = buffer.getvalue().decode().splitlines()
    return DrawnFigure(("\n".join(line.rstrip() for line in lines) + "\n").encode(), areas)


def draw_panel(ax: Axes, panel: Panel, order: Sequence[str]) -> None:
    """Draw one panel. order: the arms by colour, some of which may have no curve here."""
    for index, (label, band) in enumerate(panel.curves.items()):
        style = order.index(label) if panel.has_error_bars else index
        colour = COLOURS[style % len(COLOURS)]
        if panel.has_error_bars:
            x = np.array(band.x) + panel.dodge * (index - (len(panel.curves) - 1) / 2)
            middle = np.array(band.middle)
            ends = [middle - band.low, band.high - middle]
            ax.errorbar(x, middle, ends, label=label, color=colour, marker=MARKERS[style % len(MARKERS)], **ERROR_BARS)
        else:
            dashes = DASHES[style % len(DASHES)]
            ax.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(band.x, band.middle, color=colour, label=label, linewidth=1.6, dashes=dashes)
    ax.set_xlabel(panel.xlabel)
    ax.set_ylabel(panel.ylabel)
    if panel.marks_zero:
        ax.axhline(0, color=COLOURS[0], linewidth=1.0)
    ax.set_title(panel.title, loc="left")
    if panel.ticks is not None:
        ax.set_xticks(panel.ticks)
    if panel.starts_at_zero:
        ax.set_ylim(bottom=0)


def _add_legend(canvas: Canvas, ax: Axes) -> None:
    """One legend for all panels, above them, where it hides no data.

    Margins are set instead of fitted (tight_layout), which takes as long as drawing.
    """
    handles, labels = ax.get_legend_handles_labels()
    with rc_context(STYLE):
        canvas.legend(handles, labels, loc="upper center", ncols=min(4, len(labels)), handlelength=3.2)
    grid = ax.get_gridspec()
    assert grid is not None
    width, height = canvas.get_size_inches()
    top = TITLE + 0.1 + 0.25 * -(-len(labels) // 4)
    wide = (width - LEFT - RIGHT - (grid.ncols - 1) * (LEFT + RIGHT)) / grid.ncols
    high = (height - top - BOTTOM - (grid.nrows - 1) * (TITLE + BOTTOM)) / grid.nrows
    canvas.subplots_adjust(left=LEFT / width, right=1 - RIGHT / width, bottom=BOTTOM / height, top=1 - top / height)
    canvas.subplots_adjust(wspace=(LEFT + RIGHT) / wide, hspace=(TITLE + BOTTOM) / high)


def drawable(text: str) -> str:
    """`text` on one line, with "?" for every character that the figures' font lacks."""
    known = _characters()
    return "".join(character if ord(character) in known else "?" for character in one_line(text))


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())

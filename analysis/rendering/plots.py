"""The figures of the report as SVG, the same bytes each time. `panels` draws what is in them."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from analysis.rendering.model import BARS, INTERVALS, LINES, MATRIX, ROWS, Figure, Panel
from analysis.rendering.panels import FONT, draw_panel
from dynamic_rcnn.run.worker import start_worker

WIDTH = 10.0  # inches
LEFT, RIGHT, BOTTOM, TITLE = 0.68, 0.12, 0.55, 0.32  # inches around each panel: y labels, space, x labels, title
LABELS, VALUES, CHARACTER = 0.3, 0.45, 0.082  # inches beside rows: between labels and panel, values, a character
FALLBACKS = "Verdana, sans-serif"  # Verdana has the same widths
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dynamic-rcnn",
    "svg.fonttype": "none",  # text, which is a third as large as its outlines and can be searched
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

_FIGURES_PER_PROCESS, _MOST_PROCESSES = 12, 8
_TAG, _DECIMALS = re.compile(r"<[^>]*>"), re.compile(r"-?\d+\.\d{3,}")


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


def draw_all(figures: Sequence[Figure]) -> dict[str, DrawnFigure]:
    """Draw figures, many of them by several processes. Returns them by name."""
    processes = min(len(os.sched_getaffinity(0)), len(figures) // _FIGURES_PER_PROCESS, _MOST_PROCESSES)
    if processes < 2:
        return {figure.name: draw(figure) for figure in figures}
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), start_worker) as pool:
        return dict(zip((figure.name for figure in figures), pool.map(draw, figures), strict=True))


def draw(figure: Figure) -> DrawnFigure:
    """Draw a figure, with its identifier in the metadata."""
    canvas, axes = _drawn_canvas(figure)
    buffer = io.BytesIO()
    with rc_context(STYLE):
        # Like savefig, which would draw the figure twice
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None, "Identifier": figure.identifier})
    areas = [PanelArea(ax.get_position().bounds, ax.get_xlim()) for ax in axes[: len(figure.panels)]]
    return DrawnFigure(_shorten(buffer.getvalue().decode()).encode(), areas)


def draw_png(figure: Figure) -> bytes:
    """Draw a figure as PNG, for programs that show no SVG."""
    canvas, _ = _drawn_canvas(figure)
    buffer = io.BytesIO()
    with rc_context(STYLE):
        canvas.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _drawn_canvas(figure: Figure) -> tuple[Canvas, list[Axes]]:
    rows = -(-len(figure.panels) // figure.columns)
    with rc_context(STYLE):
        canvas = Canvas(figsize=(WIDTH, figure.height))
        axes = list(canvas.subplots(rows, figure.columns, squeeze=False).flat)
    for ax, panel in zip(axes, figure.panels, strict=False):
        draw_panel(ax, panel, figure.arms)
    for ax in axes[len(figure.panels) :]:
        ax.set_visible(False)
    kind = figure.panels[0].kind
    top = _add_legend(canvas, axes[0], figure) if kind in (LINES, INTERVALS, BARS) else TITLE
    if kind in (LINES, INTERVALS):
        _lay_out_grid(canvas, axes[0], top)
    else:
        _lay_out_rows(canvas, axes, figure, top)
    return canvas, axes


def _shorten(svg: str) -> str:
    """The same drawing with coordinates to a tenth of a point, and fonts for machines that lack the first."""
    svg = svg.replace(f"'{FONT}'", f"'{FONT}', {FALLBACKS}")
    svg = _TAG.sub(lambda tag: _DECIMALS.sub(_rounded, tag[0]), svg)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _rounded(match: re.Match[str]) -> str:
    value = float(match[0])
    size = abs(value)
    return f"{value:.{1 if size >= 10 else 2 if size >= 1 else 6}f}"


def _add_legend(canvas: Canvas, ax: Axes, figure: Figure) -> float:
    """One legend for all panels, above them, where it hides no data; arms come first.

    Returns the space above the panels, in inches.
    """
    found, titles = ax.get_legend_handles_labels()
    order = sorted(range(len(titles)), key=lambda position: titles[position] not in figure.arms)
    handles, labels = [found[position] for position in order], [titles[position] for position in order]
    with rc_context(STYLE):
        canvas.legend(handles, labels, loc="upper center", ncols=min(4, len(labels)), handlelength=3.2)
    return TITLE + 0.1 + 0.25 * -(-len(labels) // 4)


def _lay_out_grid(canvas: Canvas, ax: Axes, top: float) -> None:
    """Margins around panels in rows and columns. Fitting them (tight_layout) takes as long as drawing."""
    grid = ax.get_gridspec()
    assert grid is not None
    width, height = canvas.get_size_inches()
    wide = (width - LEFT - RIGHT - (grid.ncols - 1) * (LEFT + RIGHT)) / grid.ncols
    high = (height - top - BOTTOM - (grid.nrows - 1) * (TITLE + BOTTOM)) / grid.nrows
    canvas.subplots_adjust(left=LEFT / width, right=1 - RIGHT / width, bottom=BOTTOM / height, top=1 - top / height)
    canvas.subplots_adjust(wspace=(LEFT + RIGHT) / wide, hspace=(TITLE + BOTTOM) / high)


def _lay_out_rows(canvas: Canvas, axes: list[Axes], figure: Figure, top: float) -> None:
    """Panels of the same rows side by side, with the rows' labels to the left of the first."""
    panel = figure.panels[0]
    left = LABELS + CHARACTER * max(map(len, _row_labels(panel)), default=0)
    between = (VALUES if panel.kind == ROWS else 0) + 2 * RIGHT
    below = BOTTOM
    if panel.kind == MATRIX:  # its labels are turned
        below += 0.7 * CHARACTER * max(map(len, panel.labels), default=0)
    wide = (WIDTH - left - len(axes) * between) / len(axes)
    bounds = {"bottom": below / figure.height, "top": 1 - top / figure.height}
    canvas.subplots_adjust(left=left / WIDTH, right=1 - between / WIDTH, wspace=between / wide, **bounds)
    for ax in axes[1:]:
        ax.tick_params(labelleft=False)


def _row_labels(panel: Panel) -> list[str]:
    return list(panel.labels) if panel.kind == BARS else [*panel.curves, *panel.headings.values()]

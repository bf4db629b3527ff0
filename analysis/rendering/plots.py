"""The figures. A plot takes axes and prepared numbers, draws, and returns the axes; it computes nothing.

Colours are Okabe and Ito's, safe for colour-blind readers; every arm has its own marker and dashes as well,
since lines of different arms may lie on each other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analysis.rendering.model import FigureFile
from analysis.sections.curves import Curves

COLOURS = ("#000000", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31")
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (6, 2, 2, 2), (1, 1.5), (8, 2, 1, 2, 1, 2))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LEFT, RIGHT, BOTTOM, TITLE = 0.68, 0.12, 0.55, 0.32  # inches around each panel: labels, nothing, labels, its title
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dynamic-rcnn",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
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


def plot_bands(ax: Axes, curves: Curves, xlabel: str, ylabel: str) -> Axes:
    """A line an arm, with its band shaded."""
    for index, (label, band) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        dashes = DASHES[index % len(DASHES)]
        ax.fill_between(band.x, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(band.x, band.middle, color=colour, label=label, linewidth=1.6, dashes=dashes)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def plot_intervals(ax: Axes, curves: Curves, xlabel: str, ylabel: str, dodge: float, order: Sequence[str] = ()) -> Axes:
    """A marker with an error bar an arm and x, the arms side by side (`dodge` apart), joined by a thin line.

    order: the arms by colour, where some of them are left out here.
    """
    for index, (label, band) in enumerate(curves.items()):
        shift = dodge * (index - (len(curves) - 1) / 2)
        x = [value + shift for value in band.x]
        below = [middle - low for middle, low in zip(band.middle, band.low, strict=True)]
        above = [high - middle for middle, high in zip(band.middle, band.high, strict=True)]
        style = order.index(label) if order else index
        ax.errorbar(
            x,
            band.middle,
            yerr=[below, above],
            label=label,
            color=COLOURS[style % len(COLOURS)],
            marker=MARKERS[style % len(MARKERS)],
            markersize=4.5,
            linewidth=0.9,
            elinewidth=1.1,
            capsize=2,
        )
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def draw_ap_by_iou(values: Curves, differences: Curves, baseline: str) -> Figure:
    """AP of each arm against the IoU threshold, and each arm's difference from the baseline."""
    fig, (left, right) = _subplots(1, 2, (10.0, 4.6))
    plot_intervals(left, values, "IoU threshold", "AP (%)", dodge=0.0)
    plot_intervals(right, differences, "IoU threshold", "difference in AP (points)", dodge=0.008, order=list(values))
    right.axhline(0, color=COLOURS[0], linewidth=1.0)
    left.set_title("AP", loc="left")
    right.set_title(f"arm minus {baseline}", loc="left")
    for ax in (left, right):
        ax.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9])
    left.set_ylim(bottom=0)
    return _with_legend(fig, left)


def draw_state(thresholds: Curves, betas: Curves) -> Figure:
    """T and beta over the iterations."""
    fig, (left, right) = _subplots(1, 2, (10.0, 4.4))
    plot_bands(left, thresholds, "iteration", "T (IoU)")
    plot_bands(right, betas, "iteration", "beta (of the normalised targets)")
    left.set_title("IoU threshold T of label assignment", loc="left")
    right.set_title("beta of SmoothL1", loc="left")
    right.set_ylim(bottom=0)
    return _with_legend(fig, left)


def draw_panels(panels: Mapping[str, tuple[str, str, Curves]], columns: int) -> Figure:
    """Small multiples: title -> (label of the x axis, label of the y axis, curves)."""
    rows = -(-len(panels) // columns)
    fig, axes = _subplots(rows, columns, (10.0, 0.4 + 3.0 * rows))
    for ax, (title, (xlabel, ylabel, curves)) in zip(axes, panels.items(), strict=False):
        plot_bands(ax, curves, xlabel, ylabel)
        ax.set_title(title, loc="left")
        ax.set_ylim(bottom=0)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return _with_legend(fig, axes[0])


@dataclass(frozen=True)
class Panel:
    """Where a panel of a figure lies, in fractions of the figure from its lower left corner, and what it spans."""

    box: tuple[float, float, float, float]  # x, y, width, height
    span: tuple[float, float]  # along the x axis
    xlabel: str


@dataclass(frozen=True)
class DrawnFigure:
    """The figure as SVG, the same bytes each time, and its panels in the order of its data."""

    svg: bytes
    panels: list[Panel]


def drawn(figure: FigureFile) -> DrawnFigure:
    """Draw it, with its identifier in the metadata."""
    fig = figure.draw()
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        # what savefig does, without drawing the figure twice
        FigureCanvasSVG(fig).print_svg(buffer, metadata={"Date": None, "Identifier": figure.identifier})
    panels = [Panel(ax.get_position().bounds, ax.get_xlim(), ax.get_xlabel()) for ax in fig.axes[: len(figure.data)]]
    plt.close(fig)
    lines = buffer.getvalue().decode().splitlines()
    return DrawnFigure(("\n".join(line.rstrip() for line in lines) + "\n").encode(), panels)


def all_drawn(figures: Sequence[FigureFile]) -> dict[str, DrawnFigure]:
    """Each figure by its name."""
    return {figure.name: drawn(figure) for figure in figures}


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    return fig, list(axes.flat)


def _with_legend(fig: Figure, ax: Axes) -> Figure:
    """One legend for all panels, above them, where it hides no data.

    Margins are set, not fitted (tight_layout): fitting takes as long as drawing.
    """
    handles, labels = ax.get_legend_handles_labels()
    with plt.rc_context(STYLE):
        fig.legend(handles, labels, loc="upper center", ncols=min(4, len(labels)), handlelength=3.2)
    grid = ax.get_gridspec()
    assert grid is not None
    width, height = fig.get_size_inches()
    top = TITLE + 0.1 + 0.25 * -(-len(labels) // 4)
    wide = (width - LEFT - RIGHT - (grid.ncols - 1) * (LEFT + RIGHT)) / grid.ncols
    high = (height - top - BOTTOM - (grid.nrows - 1) * (TITLE + BOTTOM)) / grid.nrows
    fig.subplots_adjust(left=LEFT / width, right=1 - RIGHT / width, bottom=BOTTOM / height, top=1 - top / height)
    fig.subplots_adjust(wspace=(LEFT + RIGHT) / wide, hspace=(TITLE + BOTTOM) / high)
    return fig

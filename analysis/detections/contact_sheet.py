"""A contact sheet: images with ground truth and the detections of two arms beside each other.

Pixels, boxes and axes are passed in; nothing is computed or read here. The same input gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.detections.columns import Detections, Floats, Integers, Objects
from analysis.rendering.plots import COLOURS, STYLE

Pixels = NDArray[np.uint8]
CELL = 2.4  # inches
DPI = 100


@dataclass(frozen=True)
class Labelled:
    """The n boxes of one image: (x, y, width, height) in pixels, category, and score (None for ground truth)."""

    box: Floats  # (n, 4)
    category: Integers  # (n,)
    score: Floats | None = None  # (n,)


@dataclass(frozen=True)
class SheetRow:
    """One image: its pixels (height, width, 3 channels RGB or none for grey), and by column title its boxes."""

    title: str
    pixels: Pixels
    columns: Mapping[str, Labelled]


def objects_on(objects: Objects, image: int) -> Labelled:
    """The ground truth of the image at position `image`."""
    here = objects.image == image
    return Labelled(objects.box[here], objects.category[here])


def detections_on(detections: Detections, image: int, min_score: float) -> Labelled:
    """A run's detections on the image at position `image` with at least `min_score`, the best first."""
    here = np.flatnonzero((detections.image == image) & (detections.score >= min_score))
    here = here[np.argsort(-detections.score[here], kind="stable")]
    return Labelled(detections.box[here], detections.category[here], detections.score[here])


def draw_boxes(ax: Axes, pixels: Pixels, boxes: Labelled, names: Sequence[str]) -> Axes:
    """Draw one image with its boxes; a colour a category, with its name and score."""
    height, width = pixels.shape[:2]
    # Pixel 0 covers 0 to 1, as in a box's coordinates
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest")
    for at, (x, y, w, h) in enumerate(boxes.box.tolist()):
        category = int(boxes.category[at])
        colour = COLOURS[1 + category % (len(COLOURS) - 1)]
        ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=1.2))
        text = names[category] if boxes.score is None else f"{names[category]} {boxes.score[at]:.2f}"
        place = (min(max(x, 0), width), max(y, 0))
        frame = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        ax.text(*place, text, fontsize=5, color="white", va="bottom", bbox=frame, clip_on=True)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.grid(False)
    return ax


def draw_row(axes: Sequence[Axes], row: SheetRow, names: Sequence[str]) -> None:
    """Draw one image once a column, side by side; `axes`: one a column."""
    for ax, boxes in zip(axes, row.columns.values(), strict=True):
        draw_boxes(ax, row.pixels, boxes, names)
    axes[0].set_ylabel(row.title, fontsize=7)


def contact_sheet(rows: Sequence[SheetRow], names: Sequence[str]) -> Figure:
    """A figure with a row an image and a column a kind of boxes; all rows have the columns of the first."""
    columns = list(rows[0].columns)
    with plt.rc_context(STYLE):
        size = (CELL * len(columns) + 0.3, CELL * len(rows) + 0.3)
        fig, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
        for line, row in zip(axes, rows, strict=True):
            draw_row(list(line), row, names)
        for ax, title in zip(axes[0], columns, strict=True):
            ax.set_title(title, fontsize=9)
    return fig


def to_png(fig: Figure) -> bytes:
    """The figure as PNG, the same bytes each time; closes it."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()

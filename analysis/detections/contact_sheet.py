"""The contact sheet: the images on which two arms differ most, with the ground truth and the detections of both.

The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from analysis.detections.changes import MIN_SCORE, images_that_differ
from analysis.detections.columns import Detections, Floats, Integers, Objects
from analysis.detections.matching import Matches
from analysis.rendering.plots import COLOURS, STYLE
from dynamic_rcnn.errors import UserError

Pixels = NDArray[np.uint8]  # (height, width, 3), or (height, width) for grey
IMAGES = 4
CELL = 2.4  # inches
DPI = 100


@dataclass(frozen=True)
class Labelled:
    """The n boxes of one image: (n, 4) as (x, y, width, height) in pixels; scores are None for ground truth."""

    box: Floats
    category: Integers  # (n,)
    score: Floats | None = None  # (n,)


@dataclass(frozen=True)
class SheetRow:
    """One image: its title and pixels, and its boxes by the title of their column."""

    title: str
    pixels: Pixels
    columns: Mapping[str, Labelled]


def draw_contact_sheet(
    coco: COCO,
    objects: Objects,
    folder: Path,
    arms: Sequence[str],
    detections: Sequence[Sequence[Detections]],
    matches: Sequence[Sequence[Matches]],
) -> tuple[dict[str, Any], bytes]:
    """Draw the images on which an arm and its baseline differ most.

    Args:
        coco: the ground truth, for the names of the image files.
        objects: its columns.
        folder: the folder of the images.
        arms: the arm and its baseline.
        detections: for each of the two arms, one per seed; only those of the first seed are drawn.
        matches: for each of the two arms, one per seed.

    Returns:
        What the sheet shows, for the grid's statistics file, and the sheet as PNG.

    Raises:
        UserError: an image cannot be read.
    """
    arm, baseline = arms
    frame = images_that_differ(matches[0], matches[1]).head(IMAGES)
    rows, shown = [], []
    for number, ours, theirs in frame[["image_id", "arm", "baseline"]].itertuples(index=False):
        file = coco.imgs[int(number)]["file_name"]
        at = int(np.searchsorted(objects.image_ids, number))
        columns = {"ground truth": objects_on(objects, at)}
        columns |= {name: detections_on(detections[side][0], at, MIN_SCORE) for side, name in ((1, baseline), (0, arm))}
        rows.append(SheetRow(f"image {number}: F1 {theirs:.2f}, {ours:.2f}", _read_pixels(folder / file), columns))
        shown.append({"image_id": int(number), "file": file, "arm": float(ours), "baseline": float(theirs)})
    png = to_png(contact_sheet(rows, objects.names))
    return {"arm": arm, "baseline": baseline, "images": shown, "sha256": hashlib.sha256(png).hexdigest()}, png


def _read_pixels(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image ({error.__class__.__name__}); fetch it again") from None


def objects_on(objects: Objects, image: int) -> Labelled:
    """The ground truth of the image at position `image`."""
    here = objects.image == image
    return Labelled(objects.box[here], objects.category[here])


def detections_on(detections: Detections, image: int, min_score: float) -> Labelled:
    """The detections on the image at position `image` with a score of at least `min_score`, by descending score."""
    here = np.flatnonzero((detections.image == image) & (detections.score >= min_score))
    here = here[np.argsort(-detections.score[here], kind="stable")]
    return Labelled(detections.box[here], detections.category[here], detections.score[here])


def contact_sheet(rows: Sequence[SheetRow], names: Sequence[str]) -> Figure:
    """A figure with one row per image; all rows have the columns of the first. names: the category names."""
    columns = list(rows[0].columns)
    with plt.rc_context(STYLE):
        size = (CELL * len(columns) + 0.3, CELL * len(rows) + 0.3)
        fig, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
        for line, row in zip(axes, rows, strict=True):
            for ax, boxes in zip(line, row.columns.values(), strict=True):
                draw_boxes(ax, row.pixels, boxes, names)
            line[0].set_ylabel(row.title, fontsize=7)
        for ax, title in zip(axes[0], columns, strict=True):
            ax.set_title(title, fontsize=9)
    return fig


def draw_boxes(ax: Axes, pixels: Pixels, boxes: Labelled, names: Sequence[str]) -> Axes:
    """Draw one image with its boxes, each in its category's colour and with its name and score."""
    height, width = pixels.shape[:2]
    # Pixel 0 covers 0 to 1, as in a box's coordinates
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest")
    for at, (x, y, w, h) in enumerate(boxes.box.tolist()):
        category = int(boxes.category[at])
        colour = COLOURS[1 + category % (len(COLOURS) - 1)]
        ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=1.2))
        text = names[category] if boxes.score is None else f"{names[category]} {boxes.score[at]:.2f}"
        corner = (min(max(x, 0), width), max(y, 0))
        frame = {"facecolor": colour, "edgecolor": "none", "pad": 0.6}
        ax.text(*corner, text, fontsize=5, color="white", va="bottom", bbox=frame, clip_on=True)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.grid(False)
    return ax


def to_png(fig: Figure) -> bytes:
    """The figure as PNG; closes it."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()

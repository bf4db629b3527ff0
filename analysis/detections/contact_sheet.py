"""The contact sheet: the images on which two arms differ most, with the ground truth and the detections of both.

Images are decoded as in training, with the orientation that a camera noted. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.detections.changes import MIN_SCORE
from analysis.detections.pair import ArmPair, Pixels
from analysis.rendering.panels import COLOURS, drawable
from analysis.rendering.plots import STYLE
from dynamic_rcnn.metrics.columns import Detections, Floats, Integers, Objects

IMAGES = 4
CELL = 2.4  # inches
DPI = 100


class DrawnBoxes(NamedTuple):
    """The n boxes that are drawn on one image: (n, 4) as (x, y, width, height) in pixels."""

    box: Floats
    category: Integers  # (n,), decides the colour
    labels: list[str]  # n


def draw_contact_sheet(pair: ArmPair) -> tuple[dict[str, Any], bytes]:
    """Draw the images on which an arm and its baseline differ most.

    Returns:
        What the sheet shows, for the grid's statistics file, and the sheet as PNG.

    Raises:
        UserError: an image cannot be read or decoded.
    """
    objects, arms = pair.objects, (pair.baseline, pair.arm)
    frame = pair.images_by_difference().head(IMAGES)
    shown: list[Any] = frame[["image_id", "file", "arm", "baseline"]].to_dict("records")
    with rc_context(STYLE):
        fig = Figure(figsize=(3 * CELL + 0.3, CELL * len(shown) + 0.3), layout="constrained")
        axes = fig.subplots(len(shown), 3, squeeze=False)
        for line, row in zip(axes, shown, strict=True):
            at = int(np.searchsorted(objects.image_ids, row["image_id"]))
            found = [detections_on(pair.shown(arm), at, objects.names) for arm in arms]
            pixels = pair.pixels(row["file"])
            for ax, boxes in zip(line, [objects_on(objects, at), *found], strict=True):
                draw_boxes(ax, pixels, boxes)
            line[0].set_ylabel(f"image {row['image_id']}: F1 {row['baseline']:.2f}, {row['arm']:.2f}", fontsize=7)
        for ax, title in zip(axes[0], ["ground truth", *arms], strict=True):
            ax.set_title(title, fontsize=9)
        png = to_png(fig)
    digest = hashlib.sha256(png).hexdigest()
    return {"arm": pair.arm, "baseline": pair.baseline, "images": shown, "sha256": digest}, png


def objects_on(objects: Objects, image: int) -> DrawnBoxes:
    """The ground truth of the image at position `image`."""
    here = objects.image == image
    category = objects.category[here]
    return DrawnBoxes(objects.box[here], category, [objects.names[number] for number in category])


def detections_on(detections: Detections, image: int, names: Sequence[str]) -> DrawnBoxes:
    """The detections on the image at position `image` with a score of at least MIN_SCORE, by descending score.

    names: the category names.
    """
    here = np.flatnonzero((detections.image == image) & (detections.score >= MIN_SCORE))
    here = here[np.argsort(-detections.score[here], kind="stable")]
    category, score = detections.category[here], detections.score[here]
    labels = [f"{names[number]} {value:.2f}" for number, value in zip(category, score, strict=True)]
    return DrawnBoxes(detections.box[here], category, labels)


def draw_boxes(ax: Axes, pixels: Pixels, boxes: DrawnBoxes) -> None:
    """Draw one image with its boxes, each in its category's colour and with its label."""
    height, width = pixels.shape[:2]
    # Pixel 0 covers 0 to 1, as in a box's coordinates
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="nearest")
    for (x, y, w, h), category, label in zip(boxes.box.tolist(), boxes.category, boxes.labels, strict=True):
        colour = COLOURS[1 + category % (len(COLOURS) - 1)]
        ax.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=1.2))
        corner = (min(max(x, 0), width), max(y, 0))
        style: dict[str, Any] = {"fontsize": 5, "color": "white", "va": "bottom", "clip_on": True, "parse_math": False}
        ax.text(*corner, drawable(label), bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6}, **style)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.grid(False)


def to_png(fig: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()

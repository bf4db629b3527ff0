"""Which images two arms differ on most, and the contact sheet of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from analysis.detections.changes import MIN_SCORE, images_that_differ
from analysis.detections.columns import Detections, Objects
from analysis.detections.contact_sheet import Pixels, SheetRow, contact_sheet, detections_on, objects_on, to_png
from analysis.detections.matching import Matches
from dynamic_rcnn.errors import UserError

IMAGES = 4


def draw(
    coco: COCO,
    objects: Objects,
    folder: Path,
    arms: Sequence[str],
    detections: Sequence[Sequence[Detections]],
    matches: Sequence[Sequence[Matches]],
) -> tuple[dict[str, Any], bytes]:
    """What the sheet shows; the sheet as PNG: ground truth beside the first seed's detections of both arms.

    arms, detections, matches: of the arm and of the baseline, the latter two of each seed. folder: of the images.
    Raises UserError for an image that cannot be read.
    """
    arm, baseline = arms
    frame = images_that_differ(matches[0], matches[1]).head(IMAGES)
    rows, shown = [], []
    for number, ours, theirs in frame[["image_id", "arm", "baseline"]].itertuples(index=False):
        file = coco.imgs[int(number)]["file_name"]
        at = int(np.searchsorted(objects.image_ids, number))
        columns = {"ground truth": objects_on(objects, at)}
        columns |= {name: detections_on(detections[side][0], at, MIN_SCORE) for side, name in ((1, baseline), (0, arm))}
        rows.append(SheetRow(f"image {number}: F1 {theirs:.2f}, {ours:.2f}", _pixels(folder / file), columns))
        shown.append({"image_id": int(number), "file": file, "arm": float(ours), "baseline": float(theirs)})
    png = to_png(contact_sheet(rows, objects.names))
    content = {"arm": arm, "baseline": baseline, "images": shown, "sha256": hashlib.sha256(png).hexdigest()}
    return content, png


def _pixels(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read as an image ({error.__class__.__name__}); fetch it again") from None

"""The browser of detections: one HTML page of the images on which two arms differ most, with boxes to filter.

The page needs no other file. Images are decoded as in training and made smaller; boxes are JSON, which the page's
script draws over them. Kinds of errors are those of `tide`, among the detections that are shown.
"""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from analysis.detections.changes import MIN_SCORE
from analysis.detections.matching import AREAS
from analysis.detections.pair import ArmPair, Pixels
from analysis.detections.tide import IGNORED, IOUS, KINDS, MISSED, NO_ERROR, BoxErrors, find_box_errors
from analysis.rendering.html import TEMPLATES
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import Booleans, Detections, Floats, Integers, Objects

MOST_IMAGES = 40
MOST_BYTES = 120_000  # of an image with its boxes: 4.8 MB for all
SIDES = (640, 480, 320, 160)  # the longest that a side may be; smaller ones only for images that need more bytes
QUALITIES = (90, 75, 50)  # of JPEG
SIZES = ("small", "medium", "large")
BOX_KINDS = (*KINDS, "correct", "ignored")  # KINDS keep their positions
CORRECT, IN_CROWD = len(KINDS), len(KINDS) + 1


def draw_browser(
    pair: ArmPair, title: str, runs: Mapping[str, Sequence[str]], colours: Mapping[str, str]
) -> tuple[int, bytes]:
    """Write the page of an arm and its baseline.

    Args:
        pair: the arm and its baseline.
        title: of the page.
        runs: arm -> the directories of its runs, of which the first one's detections are shown.
        colours: arm -> the colour of its boxes.

    Returns:
        The number of images on the page, and the page in UTF-8.

    Raises:
        UserError: an image cannot be read or decoded, or no image differs between the arms.
    """
    objects, arms = pair.objects, (pair.baseline, pair.arm)
    frame = pair.images_by_difference()
    frame = frame[frame["difference"].round(12) != 0].head(MOST_IMAGES)
    if frame.empty:
        raise UserError(f"F1 of all images is the same for {pair.baseline} and {pair.arm}")
    images = _images(pair, frame)
    names = {number: objects.names[number] for number in _categories(images)}
    page = _render(
        {"arms": arms, "names": names, "kinds": BOX_KINDS, "images": images},
        **{"title": title, "runs": [runs[arm][0] for arm in arms], "colours": [colours[arm] for arm in arms]},
        **{"total": len(objects.image_ids), "min_score": MIN_SCORE, "ious": IOUS},
        options={"classes": names.items(), "sizes": enumerate(SIZES), "kinds": enumerate(BOX_KINDS)},
    )
    return len(images), page.encode()


def _images(pair: ArmPair, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The images of the frame with their boxes; without those that do not fit."""
    at = np.searchsorted(pair.objects.image_ids, frame["image_id"])
    errors = [_Arm(pair.objects, _shown(pair.shown(arm), at)) for arm in (pair.baseline, pair.arm)]
    images = []
    for position, row in zip(at, frame.to_dict("records"), strict=True):
        own = {
            **{"id": row["image_id"], "file": row["file"]},
            **{"f1": [round(row["baseline"], 4), round(row["arm"], 4)]},
            **{"objects": _objects_on(pair.objects, errors, position)},
            **{"found": [each.on(position) for each in errors]},
        }
        pixels = pair.pixels(own["file"])
        source = encode(pixels, MOST_BYTES - len(json.dumps(own)))
        if source is not None:
            images.append({**own, "width": pixels.shape[1], "height": pixels.shape[0], "source": source})
    return images


def encode(pixels: Pixels, most_characters: int) -> str | None:
    """The image as a data URI: the largest and best that is short enough, or None if there is none.

    Its sides are at most 640 pixels; it is a PNG where this is smaller than a JPEG.
    """
    for kind, content in _encodings(pixels):
        uri = f"data:image/{kind};base64,{b64encode(content).decode()}"
        if len(uri) <= most_characters:
            return uri
    return None


def _encodings(pixels: Pixels) -> Iterator[tuple[str, bytes]]:
    for side in SIDES:
        image = Image.fromarray(pixels)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        png = _saved(image, "png")
        for quality in QUALITIES:
            jpeg = _saved(image, "jpeg", quality=quality)
            yield min(("png", png), ("jpeg", jpeg), key=lambda each: len(each[1]))


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _shown(detections: Detections, images: Integers) -> Detections:
    """The detections on `images` with a score of at least MIN_SCORE."""
    kept = np.isin(detections.image, images) & (detections.score >= MIN_SCORE)
    return Detections(*(getattr(detections, name)[kept] for name in Detections.__dataclass_fields__))


class _Arm:
    """The detections of an arm that are shown, and their kinds of errors at each of IOUS."""

    def __init__(self, objects: Objects, detections: Detections) -> None:
        self._detections = detections
        self._errors: list[BoxErrors] = find_box_errors(objects, detections)
        self.missed: Booleans = np.array([each.missed for each in self._errors])  # (IoUs, N)

    def on(self, image: int) -> list[dict[str, Any]]:
        """The detections on the image at this position, by descending score."""
        rows, found = self._errors[0].detection, self._detections
        here = np.flatnonzero(found.image[rows] == image)
        kinds = np.array([each.kind[here] for each in self._errors])
        kinds = np.select([kinds == NO_ERROR, kinds == IGNORED], [CORRECT, IN_CROWD], kinds)
        here = rows[here]
        boxes = _boxes(found.box[here], found.category[here], found.box[here, 2] * found.box[here, 3])
        more = zip(found.score[here].tolist(), kinds.T.tolist(), strict=True)
        return [{**box, "score": round(score, 3), "kind": kind} for box, (score, kind) in zip(boxes, more, strict=True)]


def _objects_on(objects: Objects, arms: Sequence[_Arm], image: int) -> list[dict[str, Any]]:
    """The objects on the image at this position, each with its kind by arm and IoU threshold."""
    here = np.flatnonzero(objects.image == image)
    kinds = np.array([np.where(arm.missed[:, here], MISSED, CORRECT) for arm in arms])
    kinds[..., objects.crowd[here]] = IN_CROWD
    boxes = _boxes(objects.box[here], objects.category[here], objects.area[here])
    return [{**box, "kind": kinds[..., number].tolist()} for number, box in enumerate(boxes)]


def _boxes(box: Floats, category: Integers, area: Floats) -> list[dict[str, Any]]:
    sizes = np.searchsorted([AREAS["medium"][0], AREAS["large"][0]], area, side="right")
    rows = zip(box.round(1).tolist(), category.tolist(), sizes.tolist(), strict=True)
    return [{"box": corner, "class": number, "size": size} for corner, number, size in rows]


def _categories(images: Sequence[Mapping[str, Any]]) -> list[int]:
    """The positions of the categories that the page shows."""
    lists = [boxes for image in images for boxes in (image["objects"], *image["found"])]
    return sorted({box["class"] for boxes in lists for box in boxes})


def _render(data: Mapping[str, Any], **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"))  # cannot end the script element
    return environment.get_template("detections.html.j2").render(data=data, json=text, **values)

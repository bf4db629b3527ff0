"""Masks in COCO's results format, {"size": [height, width], "counts": compressed run lengths as text}. Torch-free."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from dynamic_rcnn.errors import UserError


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask [height, width] in pixels of the original image in COCO's results format."""
    encoded = run_lengths.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def area(mask: dict[str, Any]) -> int:
    """The number of pixels in a mask."""
    return int(run_lengths.area(mask))


def is_mask(value: Any) -> bool:
    """Whether a decoded JSON value is a mask in COCO's results format."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("counts"), str)
        and isinstance(value.get("size"), list)
        and [type(side) for side in value["size"]] == [int, int]
    )


def check(coco: COCO, detections: list[dict[str, Any]]) -> None:
    """Check what COCOeval does not: that all annotations and detections have masks, of the size of their image.

    Raises:
        UserError: a mask is missing or has another size.
    """
    if not all(annotation.get("segmentation") for annotation in coco.dataset["annotations"]):
        raise UserError("annotations: some have no segmentation; a model with masks cannot be evaluated on them")
    for item in detections:
        image, mask = coco.imgs[item["image_id"]], item.get("segmentation")
        if mask is None or mask["size"] != [image["height"], image["width"]]:
            found = "no mask" if mask is None else f"a mask of {mask['size']}"
            size = f"{image['height']} x {image['width']}"
            raise UserError(f"detections: one on image {item['image_id']} has {found}; the image is {size}")

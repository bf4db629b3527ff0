"""An arm and its baseline, whose detections are drawn over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pycocotools.coco import COCO

from analysis.detections.changes import images_that_differ
from analysis.detections.matching import Matches
from dynamic_rcnn.data.pixels import COLOR, read_pixels
from dynamic_rcnn.metrics.columns import Detections, Objects

Pixels = NDArray[np.uint8]  # (height, width, 3) in the order red, green, blue; (height, width) for grey


@dataclass(frozen=True)
class ArmPair:
    """An arm and its baseline on the images of their grid.

    Attributes:
        arm, baseline: their names.
        coco: the ground truth, for the names of the image files.
        objects: its columns.
        folder: the folder of the images.
        detections: arm -> one per seed; only those of the first seed are drawn.
        matches: arm -> one per seed.
        color_type: with which the runs load images, see `dynamic_rcnn.data.pixels.read_pixels`.
    """

    arm: str
    baseline: str
    coco: COCO
    objects: Objects
    folder: Path
    detections: Mapping[str, Sequence[Detections]]
    matches: Mapping[str, Sequence[Matches]]
    color_type: str = COLOR

    def images_by_difference(self) -> pd.DataFrame:
        """The images by the difference in F1 between the two, largest first, with the names of their files."""
        frame = images_that_differ(self.matches[self.arm], self.matches[self.baseline])
        frame["file"] = [str(self.coco.imgs[number]["file_name"]) for number in frame["image_id"].tolist()]
        return frame

    def shown(self, arm: str) -> Detections:
        """The detections of the arm that are drawn."""
        return self.detections[arm][0]

    def pixels(self, file: str) -> Pixels:
        """A decoded image. Raises UserError if it cannot be read."""
        return displayable(read_pixels(self.folder / file, self.color_type))


def displayable(pixels: NDArray[Any]) -> Pixels:
    """Decoded pixels as they are shown: 8 bits, red first, without transparency."""
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    return pixels.astype(np.uint8) if pixels.ndim == 2 else pixels[..., 2::-1].astype(np.uint8)

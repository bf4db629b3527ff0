"""The check that a grid's images decode, for a launch and for the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_rcnn.run.spec import EVALUATE
from experiments.config.grid import Grid

if TYPE_CHECKING:
    from dynamic_rcnn.data.image_check import ImageReport

ALL = "all"  # value of `decode`


def image_reports(grid: Grid, decode: str) -> Iterator[tuple[str, ImageReport]]:
    """Decode the images that the grid's runs need, and yield what was found in each split, "train" and "val".

    Nothing for shapes, whose pixels are checked when they are drawn. decode: ALL for every image of large splits too.
    """
    from dynamic_rcnn.data.image_check import check_images  # OpenCV takes a tenth of a second

    dataset, data = grid.runs[0].dataset, grid.runs[0].config["data"]
    if "recipe" in dataset:
        return
    root = Path(dataset["root"])
    for split, pipeline in (("train", "train_pipeline"), ("val", "test_pipeline")):
        if split == "train" and grid.task == EVALUATE:
            continue
        annotations, folder = root / dataset[f"{split}_ann"], root / dataset[f"{split}_img"]
        progress = partial(_print, split)
        yield split, check_images(annotations, folder, data[pipeline], every=decode == ALL, progress=progress)


def _print(split: str, line: str) -> None:
    print(f"{split} images: {line}", flush=True)

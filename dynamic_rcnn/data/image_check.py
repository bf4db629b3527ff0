"""Check that the images of a split decode in training, and have the sizes that the annotations give.

Decoding is parallel, and the result for a file is cached until the file changes (decoded_cache.py). Of a large split,
only a sample is decoded unless the caller asks for every image.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamic_rcnn.data.annotations import Image, read_images
from dynamic_rcnn.data.coco_checks import Problems
from dynamic_rcnn.data.decoded_cache import Stamps, read_known, write_known
from dynamic_rcnn.data.pixels import OPENCV, Inspection, image_loader, inspect
from dynamic_rcnn.errors import UserError

SMALL_BYTES = 2 * 10**9  # total size up to which every image of a split is decoded, in under a minute on one core
SAMPLE = 500  # number of images that are decoded of a larger split
_CHUNK = 32  # number of images that a thread decodes at a time
_PROGRESS_S = 10.0
_TURNED = "training applies the orientation that the camera noted (EXIF)"
_ALMOST_BLACK = (
    "have 16 bits of which the upper ones are unused, such as a camera's 12 bits: training sees them almost black, at "
    "most 31 of 255; scale their values and save 8 bits"
)


@dataclass
class ImageReport:
    """The result of checking the images of a split.

    Attributes:
        files: number of image files in the annotations.
        decoded: number of them that were decoded, now or earlier.
        problems: images that training would refuse, or whose annotations do not fit.
        advice: how to solve the problems.
        notes: other facts worth knowing.
    """

    files: int
    decoded: int
    problems: Problems = field(default_factory=Problems)
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.problems.count:
            return "; ".join([str(self.problems), *self.advice])
        if self.decoded == self.files:
            return f"all {self.files:,} decoded; their sizes are as annotated"
        sample = f"a sample of {self.decoded:,} of {self.files:,} decoded; their sizes are as annotated"
        return f"{sample}; decode=all decodes every image"


def check_images(
    annotations: Path,
    folder: Path,
    pipeline: Sequence[Mapping[str, Any]],
    every: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> ImageReport:
    """Decode the images of a split, or a sample, and compare their sizes with the annotated ones.

    Args:
        annotations: the annotation file; it must have passed the check of its fields.
        folder: the folder to which its file names are relative.
        pipeline: a pipeline of mmdet. Images are decoded as its loader decodes them.
        every: decode every image even if their files have more than SMALL_BYTES.
        progress: receives a line every ten seconds.
    """
    color_type, backend = image_loader(pipeline)
    images = {image.file_name: image for image in read_images(annotations)}
    stamps = dict(_stamps(folder, images))
    known = read_known(folder, color_type, stamps)
    found: dict[str, Inspection | str] = {}
    try:
        found.update(_decode(folder, _choose(stamps, known, every), color_type, progress))
    finally:  # an interrupted check keeps what it has decoded
        new = {name: each for name, each in found.items() if isinstance(each, Inspection)}
        if new:
            write_known(folder, color_type, stamps, {**known, **new})
    refused = {name: fault for name, fault in found.items() if isinstance(fault, str)}
    known |= new
    report = ImageReport(len(images), len(known) + len(refused))
    for name in sorted(refused):
        report.problems.add(f"image {images[name].id}: {refused[name]}")
    _compare_sizes(report, images, folder, known)
    _check_appearance(report, known)
    if backend != OPENCV:
        report.notes.append(f"they were decoded with OpenCV, but training decodes with imdecode_backend={backend}")
    return report


def _stamps(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in sorted(names):
        try:
            found = (folder / name).stat()
        except OSError:
            yield name, (0, 0)  # decoding reports why it cannot be read
        else:
            yield name, (found.st_size, found.st_mtime_ns)


def _choose(stamps: Stamps, known: Mapping[str, Inspection], every: bool) -> list[str]:
    """The files to decode: all that are not cached, or, of a large split, always the same sample."""
    unknown = [name for name in stamps if name not in known]
    if every or sum(stamps[name][0] for name in unknown) <= SMALL_BYTES:
        return unknown
    sample = random.Random(0).sample(list(stamps), min(SAMPLE, len(stamps)))
    return [name for name in sample if name not in known]


def _decode(
    folder: Path, names: Sequence[str], color_type: str, progress: Callable[[str], None]
) -> Iterator[tuple[str, Inspection | str]]:
    """Yield each file with its inspection, or with the reason why it cannot be decoded."""

    def work(chunk: Sequence[str]) -> list[tuple[str, Inspection | str]]:
        return [(name, _inspect(folder / name, color_type)) for name in chunk]

    chunks = [names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK)]
    done, shown = 0, time.monotonic()
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))  # OpenCV releases Python's lock while it decodes
    try:
        with _silent_libraries():
            for found in pool.map(work, chunks):
                yield from found
                done += len(found)
                if time.monotonic() - shown > _PROGRESS_S:
                    shown = time.monotonic()
                    progress(f"{done:,} of {len(names):,} images decoded")
    finally:
        pool.shutdown(cancel_futures=True)


def _inspect(path: Path, color_type: str) -> Inspection | str:
    try:
        return inspect(path, color_type)
    except UserError as error:
        return str(error)


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Drop what the decoders of JPEG, PNG and TIFF print to the standard error about single files."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _compare_sizes(
    report: ImageReport, images: Mapping[str, Image], folder: Path, known: Mapping[str, Inspection]
) -> None:
    wrong = sorted(
        name
        for name, found in known.items()
        if (found.width, found.height) != (images[name].width, images[name].height)
    )
    for name in wrong:
        found, image = known[name], images[name]
        sizes = f"{found.width} x {found.height}, annotated as {image.width} x {image.height}"
        report.problems.add(f"image {image.id}: file {folder / name} decodes to {sizes}")
    if any(known[name].turned for name in wrong):
        report.advice.append(
            f"{_TURNED}: if the boxes fit the images as viewers show them, correct width and height in the "
            "annotations; else remove the orientation from the files (exiftool -Orientation=)"
        )
    elif wrong:
        report.advice.append(
            "if the boxes fit the images, correct width and height in the annotations; else these are not the images "
            "that were annotated"
        )


def _check_appearance(report: ImageReport, known: Mapping[str, Inspection]) -> None:
    """Report images that training sees differently from how viewers may show them."""
    turned = [] if _TURNED in "".join(report.advice) else _names(known, "turned")
    for text, names in (
        (f"are turned, because {_TURNED}; boxes must fit the images as viewers show them", turned),
        ("have several frames; training sees the first", _names(known, "animated")),
        (_ALMOST_BLACK, dark := _names(known, "almost_black")),
    ):
        if names:
            line = f"{len(names):,} of {len(known):,} images (such as {names[0]}) {text}"
            if names is dark and 2 * len(dark) > len(known):
                report.problems.add(line)
            else:
                report.notes.append(line)


def _names(known: Mapping[str, Inspection], field: str) -> list[str]:
    return sorted(name for name, found in known.items() if getattr(found, field))

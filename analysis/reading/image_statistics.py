"""The file that `analysis/images.py` writes for each grid: what the detections show over images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import DETECTIONS, GRID_SUFFIX, FileContent, Part, file_digest, read_content
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.run.schema import BrokenRulesError
from dynamic_rcnn.run.values import Count, Fraction, SignedFraction

SUFFIX = ".images.json"
SHEET_SUFFIX = ".images.png"
BROWSER_SUFFIX = ".detections.html"
GRID_FILES = (GRID_SUFFIX, SUFFIX, SHEET_SUFFIX, BROWSER_SUFFIX)  # suffixes of the files of a grid
COMMAND = "python analysis/images.py"
_REPEAT = f"{COMMAND} writes it again"


class Sampling(Part):
    """AP of the runs as fractions, and how it varies with the choice of images.

    Attributes:
        values: AP of each run, on the original images.
        covariance: of the runs over resamples of the images, the lower triangle by row.
    """

    values: list[Fraction]
    covariance: list[list[FiniteFloat]]


class ErrorRow(Part):
    """AP of an arm at one IoU threshold, and what fixing each kind of error would gain (see detections.tide)."""

    arm: str
    iou: Fraction
    AP: Fraction | None
    classification: Fraction | None
    localisation: Fraction | None
    both: Fraction | None
    duplicate: Fraction | None
    background: Fraction | None
    missed: Fraction | None


class ChangeRow(Part):
    """AP of one category and object size, of an arm and of its baseline."""

    category: str
    size: str
    arm: Fraction
    baseline: Fraction
    difference: SignedFraction


class ScoreCurve(Part):
    """A curve of an arm over recall or score (see detections.scores): mean, lowest and highest run at each x."""

    arm: str
    kind: Literal["precision", "mean_iou", "true_positives"]
    iou: Fraction | None
    x: list[Fraction]
    middle: list[Fraction]
    low: list[Fraction]
    high: list[Fraction]

    @model_validator(mode="after")
    def _check_lengths(self) -> ScoreCurve:
        for name in ("middle", "low", "high"):
            if len(getattr(self, name)) != len(self.x):
                raise BrokenRulesError(
                    [((name,), f"{len(getattr(self, name))} values", f"must be {len(self.x)}, as x")]
                )
        return self


class CalibrationRow(Part):
    """The expected calibration error of an arm at one IoU threshold; None without detections."""

    arm: str
    iou: Fraction
    error: Fraction | None


class Confusion(Part):
    """Which classes are detected as which.

    Attributes:
        of: the number of all classes.
        classes: those that are confused most.
        shares: arm -> for each class, the shares of its objects detected as each class, then not found; the last row:
            the share of each class among detections without an object.
    """

    of: Count
    classes: list[str]
    shares: dict[str, list[list[Fraction]]]

    @model_validator(mode="after")
    def _check_sizes(self) -> Confusion:
        size = len(self.classes) + 1
        for arm, rows in self.shares.items():
            if list(map(len, rows)) != [size] * size:
                rule = f"must be {size} rows of {size}, one more than classes"
                raise BrokenRulesError([(("shares", arm), f"{len(rows)} rows", rule)])
        return self


class Sheet(Part):
    """The contact sheet: the arms that it compares, the images that it shows, and the PNG file with its digest."""

    arm: str
    baseline: str
    images: list[Any]
    sha256: str
    png: bytes = Field(default=b"", exclude=True)


class ImageStatistics(FileContent):
    """Statistics over the images of a grid.

    Attributes:
        runs: run directory -> sha256 of the detections that were used.
        images: number of images that the runs were evaluated on. resamples: number of bootstrap resamples.
        sampling: "AP" or an IoU threshold such as "0.75" -> the runs in the order of `runs`. Empty in older files.
        errors: AP that fixing one kind of error would gain, by arm and IoU threshold.
        changes: arm -> the categories and sizes in which it differs most from its baseline.
        pairs_seeds: whether `changes` and `sheet` are over the seeds that both arms have. In older files they are over
            all seeds of each arm.
        curves, calibration, confusion: what the scores tell. Older files have none.
        browser: the path of the page to browse detections, relative to the folder of runs, or in a report to
            its own; empty if there is none.
    """

    grid: str
    setting: str
    baseline: str | None = None
    runs: dict[str, str]
    images: Count
    resamples: Count
    seed: int | None = None
    sampling: dict[str, Sampling] = Field(default_factory=dict)
    errors: list[ErrorRow]
    changes: dict[str, list[ChangeRow]]
    pairs_seeds: bool = False
    curves: list[ScoreCurve] = Field(default_factory=list)
    calibration: list[CalibrationRow] = Field(default_factory=list)
    confusion: Confusion | None = None
    sheet: Sheet | None = None
    browser: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _check_sampling(self) -> ImageStatistics:
        runs = len(self.runs)
        for name, each in self.sampling.items():
            if len(each.values) != runs or list(map(len, each.covariance)) != list(range(1, runs + 1)):
                rule = f"must be {runs} values and a triangle of {runs} rows, one per run"
                raise BrokenRulesError([(("sampling", name), f"{len(each.values)} values", rule)])
        if self.sampling and "AP" not in self.sampling:
            raise BrokenRulesError([(("sampling",), ", ".join(self.sampling), "must have AP")])
        return self


def path_for(grid: Manifest, suffix: str = SUFFIX) -> str:
    """The path of the grid's file relative to the folder of runs, or with another suffix of its sheet or its page."""
    return f"{grid.manifest.removesuffix(GRID_SUFFIX)}{suffix}"


def detection_digests(runs: Path, paths: Sequence[str]) -> dict[str, str]:
    """Run directory -> sha256 of its detections."""
    return {path: file_digest(runs / path / DETECTIONS) for path in sorted(set(paths))}


def read(grid: Manifest, path: Path) -> ImageStatistics | None:
    """Read the grid's file, `path_for(grid)` in a folder of runs. Returns None if there is none.

    Raises UserError if it is not valid or was computed from detections that have changed since. Detections that
    are not in the folder are not compared: large ones are left out of committed records.
    """
    if not path.exists():
        return None
    runs = path.parents[1]
    statistics = read_content(ImageStatistics, path, _REPEAT)
    if (statistics.grid, statistics.setting) != (grid.name, grid.setting):
        raise UserError(f"{path}: belongs to grid {statistics.grid!r}, setting {statistics.setting!r}; {_REPEAT}")
    planned = {cell.path for cell in grid.cells}
    present = [name for name in statistics.runs if name in planned and (runs / name / DETECTIONS).is_file()]
    digests = {name: statistics.runs[name] for name in present}
    if not set(statistics.runs) <= planned or detection_digests(runs, present) != digests:
        raise UserError(f"{path}: computed from detections that have changed since; {_REPEAT}")
    browser = path_for(grid, BROWSER_SUFFIX)
    statistics = statistics.model_copy(update={"browser": browser if (runs / browser).is_file() else ""})
    if statistics.sheet is None:
        return statistics
    picture = runs / path_for(grid, SHEET_SUFFIX)
    png = picture.read_bytes() if picture.is_file() else b""
    if hashlib.sha256(png).hexdigest() != statistics.sheet.sha256:
        raise UserError(f"{picture}: missing, or changed since it was written; {_REPEAT}")
    return statistics.model_copy(update={"sheet": statistics.sheet.model_copy(update={"png": png})})

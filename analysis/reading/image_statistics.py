"""The file that `analysis/images.py` writes of a grid: what its detections say over images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.detections.tide import KINDS
from analysis.reading.manifest import Grid
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.digest import file_digest
from dynamic_rcnn.run.files import DETECTIONS, GRID_SUFFIX, read_json

SUFFIX = ".images.json"
SHEET_SUFFIX = ".images.png"
GRID_FILES = (GRID_SUFFIX, SUFFIX, SHEET_SUFFIX)  # how the names of a grid's own files end
COMMAND = "python analysis/images.py"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Of a difference of AP, or undefined."""
    return value is None or (isinstance(value, int | float) and -1 <= value <= 1)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_gain(value: Any) -> bool:
    return value is None or _is_fraction(value)


_ROWS: dict[str, dict[str, Callable[[Any], bool]]] = {  # field -> what its rows hold
    "differences": {"arm": _is_text, "metric": _is_text, **dict.fromkeys(("value", "low", "high"), _is_number)},
    "errors": {"arm": _is_text, "iou": _is_fraction, **dict.fromkeys(("AP", *KINDS), _is_gain)},
    "changes": {
        **{"category": _is_text, "size": _is_text, "arm": _is_fraction, "baseline": _is_fraction},
        "difference": lambda value: value is not None and _is_number(value),
    },
}


@dataclass(frozen=True)
class Sheet:
    """The contact sheet: the arms that it compares, how many images it shows, and the picture as PNG."""

    arm: str
    baseline: str
    images: int
    png: bytes


@dataclass(frozen=True)
class ImageStatistics:
    """differences, errors: rows as in `_ROWS`; changes: arm -> rows. runs: what it was made of."""

    runs: list[str]
    images: int
    resamples: int
    differences: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    changes: dict[str, list[dict[str, Any]]]
    sheet: Sheet | None


def place(grid: Grid) -> str:
    """Where a grid's file lies, relative to the run folder."""
    return f"{grid.manifest.removesuffix(GRID_SUFFIX)}{SUFFIX}"


def sheet_place(grid: Grid) -> str:
    """The path of the grid's contact sheet below the runs folder."""
    return f"{grid.manifest.removesuffix(GRID_SUFFIX)}{SHEET_SUFFIX}"


def sources(runs: Path, paths: Sequence[str]) -> dict[str, str]:
    """Run directory -> sha256 of its detections: what a file was made of."""
    return {path: file_digest(runs / path / DETECTIONS) for path in sorted(set(paths))}


def read(grid: Grid, path: Path) -> ImageStatistics | None:
    """The grid's file at `path`, its `place` in a runs folder; None if there is none.

    Raises UserError if it is corrupt, or was made of other detections than those that are there now. Large ones are not
    in committed records: what is not there is not compared.
    """
    if not path.exists():
        return None
    runs = path.parents[1]
    value = read_json(path)
    made_of, changes = value.get("runs"), value.get("changes")
    if not isinstance(made_of, dict) or not isinstance(changes, dict):
        raise UserError(f"{path}: fields 'runs' and 'changes' must be objects; {COMMAND}")
    lists = [("differences", value.get("differences")), ("errors", value.get("errors"))]
    for field, rows in [*lists, *(("changes", each) for each in changes.values())]:
        if not _are_rows(rows, _ROWS[field]):
            names = ", ".join(_ROWS[field])
            raise UserError(f"{path}: field '{field}' must be a list of rows with {names}, fractions; {COMMAND}")
    images, resamples = value.get("images", 0), value.get("resamples", 0)
    if not _is_count(images) or not _is_count(resamples):
        raise UserError(f"{path}: fields 'images' and 'resamples' must be integers above 0; {COMMAND}")
    if (value.get("grid"), value.get("setting")) != (grid.name, grid.setting):
        raise UserError(f"{path}: of grid {value.get('grid')!r}, setting {value.get('setting')!r}; {COMMAND}")
    asked = {cell.path for cell in grid.cells}
    there = [name for name in made_of if name in asked and (runs / name / DETECTIONS).is_file()]
    if not set(made_of) <= asked or sources(runs, there) != {name: made_of[name] for name in there}:
        raise UserError(f"{path}: made of other detections than those of the runs now; {COMMAND} makes it again")
    return ImageStatistics(
        sorted(made_of), images, resamples, value["differences"], value["errors"], changes, _sheet(value, grid, runs)
    )


def _sheet(value: dict[str, Any], grid: Grid, runs: Path) -> Sheet | None:
    """The contact sheet that the file names; None if it names none. Raises UserError if it is not there as it was."""
    sheet, path = value.get("sheet"), runs / sheet_place(grid)
    if sheet is None:
        return None
    known = isinstance(sheet, dict) and {"arm", "baseline", "images", "sha256"} <= set(sheet)
    if not known or not isinstance(sheet["images"], list):
        rule = "must have arm, baseline, a list of images, and sha256"
        raise UserError(f"{runs / place(grid)}: field 'sheet' {rule}; {COMMAND}")
    png = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(png).hexdigest() != sheet["sha256"]:
        raise UserError(f"{path}: missing, or not as it was made; {COMMAND} makes it again")
    return Sheet(str(sheet["arm"]), str(sheet["baseline"]), len(sheet["images"]), png)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_rows(rows: Any, checks: dict[str, Callable[[Any], bool]]) -> bool:
    """Whether `rows` is a list of objects with fields that pass these checks, and intervals that are none backwards."""

    def is_row(row: Any) -> bool:
        if not isinstance(row, dict) or not all(check(row.get(name, ...)) for name, check in checks.items()):
            return False
        low, high = row.get("low"), row.get("high")
        return low is None or high is None or bool(low <= high)

    return isinstance(rows, list) and all(map(is_row, rows))

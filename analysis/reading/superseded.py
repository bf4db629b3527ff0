"""Run directories that are in no table: replaced and moved aside, or in no grid. Records list them in aside.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from dynamic_rcnn.run.files import FileContent, Part, read_content, write_content

NAME = "aside.json"
NO_TABLE = "in no table"


def _check_path(path: str) -> str:
    if path.count("/") != 2:
        raise ValueError("must be <dataset>/<arm>/<directory>")
    return path


class SupersededRun(Part):
    """A run directory and why no table contains it.

    Attributes:
        path: relative to the folder of runs.
        reason: NO_TABLE, or for a directory that was moved aside its suffix without number: "stale", "lost".
        state, attempts: of a NO_TABLE directory; None if unknown.
    """

    path: Annotated[str, AfterValidator(_check_path)]
    reason: str
    state: str | None = None
    attempts: int | None = None

    @property
    def is_replaced(self) -> bool:
        return self.reason != NO_TABLE


class SupersededList(FileContent):
    """The content of aside.json."""

    directories: list[SupersededRun]


def write(folder: Path, runs: list[SupersededRun]) -> None:
    write_content(folder / NAME, SupersededList(directories=sorted(runs, key=lambda run: run.path)))


def read(path: Path) -> list[SupersededRun]:
    """Read the list at `path`. Raises UserError if it is not valid."""
    return read_content(SupersededList, path, "python analysis/records.py writes it again").directories

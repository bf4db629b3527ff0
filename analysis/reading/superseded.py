"""Run directories that no table has: moved aside, or asked for by no grid. Records keep a list of them, aside.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import SCHEMA, read_json, write_json_atomic

NAME = "aside.json"
NO_TABLE = "in no table"


@dataclass(frozen=True)
class Aside:
    """A directory's path, relative to the runs folder, and why it is in no table.

    reason: NO_TABLE, or of one that was moved aside the suffix without its number: stale, lost.
    state, attempts: of one of NO_TABLE; None where they were not known.
    """

    path: str
    reason: str
    state: str | None = None
    attempts: int | None = None

    @property
    def is_replaced(self) -> bool:
        return self.reason != NO_TABLE


def moved(path: str) -> Aside:
    """Of a directory that was moved aside: seed0-<id>.stale1 is 'stale'."""
    return Aside(path, path.rsplit(".", 1)[-1].rstrip("0123456789") or "replaced")


def write(folder: Path, directories: list[Aside]) -> None:
    rows = [asdict(each) for each in sorted(directories, key=lambda each: each.path)]
    write_json_atomic(folder / NAME, {"schema": SCHEMA, "directories": rows})


def read(path: Path) -> list[Aside]:
    """The list at `path`. Raises UserError if it is no such list."""
    rows = read_json(path).get("directories")
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise UserError(
            f"{path}: field 'directories' must be a list of path (<dataset>/<arm>/<directory>), reason, state and "
            "attempts; python analysis/records.py writes it anew"
        )
    return [Aside(row["path"], row["reason"], row.get("state"), row.get("attempts")) for row in rows]


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("path"), str)
        and row["path"].count("/") == 2
        and isinstance(row.get("reason"), str)
        and isinstance(row.get("state"), str | None)
        and isinstance(row.get("attempts"), int | None)
    )

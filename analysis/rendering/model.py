"""The report as data: sections of text, tables and figures, which each format (Markdown, LaTeX, CSV, ...) writes.

Text is Markdown within a block: a heading begins with '#', cells and captions use `code`, **bold**, *emphasis* and
`<br>` alone. Text of records in it is escaped (`markdown.escape`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.rendering.inline import plain, slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.sections.curves import Curves

IDENTIFIER = "dynamic-rcnn data sha256:"


@dataclass(frozen=True)
class Cell:
    """text: as shown. numbers: what it shows, by name (mean, sd), as it was computed. runs: the runs it was made of."""

    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    runs: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header; the first `text_columns` columns are text, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    text_columns: int


@dataclass(frozen=True)
class FigureFile:
    """A figure of the page: `data` is everything that it shows, `draw` makes it (and imports matplotlib).

    Its axes come in the order of `data`'s panels.
    """

    name: str
    title: str
    caption: str
    data: Mapping[str, Curves]
    draw: Callable[[], Figure]

    @property
    def identifier(self) -> str:
        """Says in the file's metadata which numbers it was drawn from: a hash of them to six decimals.

        Not to more: the last bits differ between versions of scipy, and a difference of nothing is 1e-15.
        """
        rows = {
            panel: [
                [arm, *([round(v, 6) + 0.0 for v in series] for series in vars(band).values())]
                for arm, band in bands.items()
            ]
            for panel, bands in self.data.items()
        }
        return IDENTIFIER + hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@dataclass(frozen=True)
class Picture:
    """A picture that is part of the records, as PNG. name: of its file."""

    name: str
    title: str
    caption: str
    png: bytes


Row = Sequence[Cell | str]
Block = str | Table | FigureFile | Picture


@dataclass(frozen=True)
class Section:
    """Blocks from their heading (##) on. key: short, names its files."""

    key: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class NamedTable:
    """A table with the name of its files, and the headings above it as title."""

    name: str
    title: str
    table: Table


@dataclass(frozen=True)
class Page:
    """The report. runs: what cells and rows name by path: the facts of each run, ready to be shown."""

    title: str
    sections: Sequence[Section]
    runs: Mapping[str, Mapping[str, Any]]

    @property
    def figures(self) -> list[FigureFile]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, FigureFile)]

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    @property
    def tables(self) -> list[NamedTable]:
        """All tables; several below one heading are numbered from the second on."""
        found = [named for section in self.sections for named in _named(section)]
        seen: Counter[str] = Counter()
        numbered = []
        for each in found:
            seen[each.name] += 1
            suffix = f"-{seen[each.name]}" if seen[each.name] > 1 else ""
            numbered.append(NamedTable(each.name + suffix, each.title, each.table))
        return numbered


def table(header: Iterable[str], rows: Iterable[Row], text_columns: int = 1) -> Table:
    """A table of cells; those without numbers may be given as text."""
    made = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    return Table(list(header), made, text_columns)


def numbers(**values: float | None) -> dict[str, float]:
    """Those of `values` that are known, for a cell."""
    return {name: value for name, value in values.items() if value is not None}


def heading(block: Block) -> tuple[int, str] | None:
    """(level, text) of a block that is a heading."""
    if not isinstance(block, str) or not block.startswith("#"):
        return None
    marks, _, text = block.partition(" ")
    return len(marks), text


def _named(section: Section) -> Iterator[NamedTable]:
    titles = ["", ""]
    for block in section.blocks:
        if (found := heading(block)) is not None:
            level, text = found
            titles = [plain(text), ""] if level == 2 else [titles[0], plain(text)]
        elif isinstance(block, Table):
            name = f"{section.key}-{slug(titles[1])}" if titles[1] else section.key
            yield NamedTable(name, ": ".join(filter(None, titles)), block)

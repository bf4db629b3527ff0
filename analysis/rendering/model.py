"""The report as data: sections of paragraphs, tables and figures. Each writer formats and escapes them.

Written by `markdown`, `html`, `latex` (tables), `data` (tables as CSV and JSON) and `plots` (figures as SVG).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.rendering.text import BREAK, Line, Text, interval, mean_sd, signed, slug, strong, to_text

IDENTIFIER = "dynamic-rcnn data sha256:"


@dataclass(frozen=True)
class Number:
    """A number in a table, with what is known about it.

    Attributes:
        value: as computed; None is shown as a dash.
        name: its name in CSV and JSON, such as "mean" or "difference".
        digits: the decimals that are shown, also of `sd`, `low` and `high`.
        is_signed: whether it is shown with its sign, as a difference is.
        is_bold: whether it is emphasised, as a significant difference is.
        sd: shown beside it.
        low, high: its interval, shown below it.
        hidden: "sd", "interval" or both: in CSV and JSON alone.
        more: further numbers for CSV and JSON alone, by name.
        note: shown after it.
    """

    value: float | None
    name: str = "value"
    digits: int = 2
    is_signed: bool = False
    is_bold: bool = False
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    hidden: Collection[str] = ()
    more: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""

    @property
    def text(self) -> Text:
        """'41.00 ± 1.00', below it '[39.93, 42.07]'."""
        sd = None if "sd" in self.hidden else self.sd
        number = signed(self.value, self.digits) if self.is_signed else mean_sd(self.value, sd, self.digits)
        shown = (strong(number) if self.is_bold else to_text(number)) + self.note
        limits = "" if "interval" in self.hidden else interval(self.low, self.high, self.digits, self.is_signed)
        return shown + BREAK + limits if limits else shown

    @property
    def known(self) -> dict[str, float]:
        """All numbers by name; those that are None are left out."""
        others = {"sd": self.sd, "low": self.low, "high": self.high, **self.more}
        known = [(self.name, self.value), *others.items()]
        return {name: value for name, value in known if value is not None}


Content = Line | Number


@dataclass(frozen=True)
class TableCell:
    """What a cell shows, and the directories of the runs behind it."""

    content: Content
    runs: Sequence[str] = ()

    @property
    def text(self) -> Text:
        return self.content.text if isinstance(self.content, Number) else to_text(self.content)

    @property
    def numbers(self) -> dict[str, float]:
        return self.content.known if isinstance(self.content, Number) else {}


Row = Sequence[TableCell | Content]


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header. The first `text_columns` columns are text, the others numbers."""

    header: Sequence[Text]
    rows: Sequence[Sequence[TableCell]]
    text_columns: int


def table(header: Iterable[Line], rows: Iterable[Row], text_columns: int = 1) -> Table:
    """A table; content without runs need not be wrapped in a cell."""
    cells = [[cell if isinstance(cell, TableCell) else TableCell(cell) for cell in row] for row in rows]
    return Table([to_text(title) for title in header], cells, text_columns)


@dataclass(frozen=True)
class Band:
    """A curve with its band: four sequences of the same length."""

    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


Curves = Mapping[str, Band]  # arm -> its curve, in table order

LINES, INTERVALS, ROWS, BARS, MATRIX = "lines", "intervals", "rows", "bars", "matrix"  # kinds of panels


@dataclass(frozen=True)
class Panel:
    """One plot of a figure.

    Attributes:
        name: the name of its values, in the HTML page and in the figure's identifier.
        kind: LINES have shaded bands; INTERVALS are markers with error bars, `dodge` apart along x; ROWS are a forest
            plot: one row per curve, each of one point at x = 0, whose value lies along the x axis. BARS are stacked
            along the x axis: a curve is a segment of every bar, x the bar's position from the top. MATRIX: a curve is
            a row of cells, x the column.
        starts_at_zero: whether the y axis does.
        ticks: along x; None: chosen by matplotlib. labels: of the ticks, which are then 0, 1, ...; of
            BARS; of the columns of a MATRIX.
        marks_zero: whether a line is drawn at y = 0.
        reference: curves that are drawn faintly, without bands; their labels are in the legend.
        joined: of INTERVALS: the title of a line -> the two curves whose points it joins.
        headings: of ROWS: the first curve of a group -> the group's title.
        hollow: the curves whose markers are not filled.
    """

    name: str
    title: str
    xlabel: str
    ylabel: str
    curves: Curves
    kind: str = LINES
    dodge: float = 0.0
    starts_at_zero: bool = True
    ticks: Sequence[float] | None = None
    labels: Sequence[str] = ()
    marks_zero: bool = False
    reference: Curves = field(default_factory=dict)
    joined: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)
    hollow: Collection[str] = ()


@dataclass(frozen=True)
class Figure:
    """Panels side by side in `columns`, 10 inches wide and `height` inches high.

    Attributes:
        name: of its file.
        alt: what it shows, for those who do not see it.
        arms: those that have a colour, in table order.
    """

    name: str
    title: str
    caption: Line
    alt: str
    arms: Sequence[str]
    panels: Sequence[Panel]
    columns: int
    height: float

    @property
    def shows_values(self) -> bool:
        """Whether report.html shows values at the pointer. Bars have a table, and matrices print their values."""
        return self.panels[0].kind not in (BARS, MATRIX)

    @property
    def identifier(self) -> str:
        """A hash of its numbers, for its file's metadata. To six decimals: further ones depend on scipy's version."""
        rows: dict[str, list[Any]] = {panel.name: [] for panel in self.panels}
        for panel in self.panels:
            for arm, band in (*panel.curves.items(), *panel.reference.items()):
                rows[panel.name].append([arm, *([round(v, 6) + 0.0 for v in each] for each in vars(band).values())])
        return IDENTIFIER + hashlib.sha256(json.dumps(rows).encode()).hexdigest()


@dataclass(frozen=True)
class Picture:
    """A picture that is part of the records, as PNG. name: of its file."""

    name: str
    title: str
    caption: Line
    png: bytes


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: Line


@dataclass(frozen=True)
class Bullets:
    """A list. details: of each item, if given: folded in HTML, left out on a terminal."""

    items: Sequence[Line]
    details: Sequence[Line] = ()


@dataclass(frozen=True)
class CodeBlock:
    lines: Sequence[str]


Block = Line | Heading | Bullets | CodeBlock | Table | Figure | Picture  # a line is a paragraph


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        key: short, part of the names of its files.
        summary: if given, the blocks are behind this line: in Markdown on a page of their own, in HTML folded.
    """

    key: str
    title: Line
    blocks: Sequence[Block]
    summary: Line | None = None


@dataclass(frozen=True)
class NamedTable:
    """A table with the name of its files, and the headings above it as title."""

    name: str
    title: str
    table: Table


@dataclass(frozen=True)
class Page:
    """The report. runs: the facts about each run that a cell names, by its directory."""

    title: str
    sections: Sequence[Section]
    runs: Mapping[str, Mapping[str, Any]]

    @property
    def figures(self) -> list[Figure]:
        """Each once: a section may repeat a figure of another one."""
        found = [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]
        return list({figure.name: figure for figure in found}.values())

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]

    @property
    def tables(self) -> list[NamedTable]:
        """All tables; of several below one heading, those after the first are numbered."""
        seen: Counter[str] = Counter()
        tables = []
        for section in self.sections:
            title, heading = str(to_text(section.title)), ""
            for block in section.blocks:
                if isinstance(block, Heading):
                    heading = str(to_text(block.text))
                elif isinstance(block, Table):
                    name = f"{section.key}-{slug(heading)}" if heading else section.key
                    seen[name] += 1
                    name += f"-{seen[name]}" if seen[name] > 1 else ""
                    tables.append(NamedTable(name, ": ".join(filter(None, [title, heading])), block))
        return tables

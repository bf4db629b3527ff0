"""The report as one HTML page with everything in it: nothing is loaded, text of records is escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from analysis.rendering.inline import plain
from analysis.rendering.inline import to_html as inline
from analysis.rendering.markup import NOTHING
from analysis.rendering.model import Block, Cell, FigureFile, Page, Picture, Section, Table, heading
from dynamic_rcnn import PROJECT as ROOT

if TYPE_CHECKING:
    from analysis.rendering.plots import DrawnFigure

TEMPLATES = ROOT / "analysis/rendering/templates"
_DIGITS = 5  # of the values that a figure says
_TEXT = MarkdownIt("commonmark", {"html": False})


def to_html(page: Page, figures: Mapping[str, DrawnFigure]) -> str:
    """The whole page. figures: those of the page by name, drawn."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = {path: number for number, path in enumerate(page.runs)}
    sections = [
        {"key": each.key, "title": _title(each), "blocks": [_block(b, numbers, figures) for b in each.blocks]}
        for each in page.sections
    ]
    runs = [{"path": path, "facts": facts} for path, facts in page.runs.items()]
    return environment.get_template("report.html.j2").render(title=page.title, sections=sections, runs=runs)


def _title(section: Section) -> str:
    titles = [found[1] for block in section.blocks if (found := heading(block)) and found[0] == 2]
    return plain(titles[0]) if titles else ""


def _block(block: Block, numbers: Mapping[str, int], figures: Mapping[str, DrawnFigure]) -> dict[str, Any]:
    """What the template shows: kind, and its content as HTML."""
    if isinstance(block, Table):
        header = [Markup(inline(title)) for title in block.header]
        content = {"header": header, "rows": _rows(block, numbers), "text_columns": block.text_columns}
        return {"kind": "table", **content}
    if isinstance(block, FigureFile):
        drawn = figures[block.name]
        return {
            "kind": "figure",
            "title": block.title,
            "caption": Markup(inline(block.caption)),
            "svg": base64.b64encode(drawn.svg).decode(),
            "panels": _script(list(_panels(block, drawn))),
        }
    if isinstance(block, Picture):
        png, caption = base64.b64encode(block.png).decode(), Markup(inline(block.caption))
        return {"kind": "picture", "title": block.title, "caption": caption, "png": png}
    if (found := heading(block)) is not None:
        return {"kind": f"h{found[0]}", "text": Markup(inline(found[1]))}
    return {"kind": "text", "text": Markup(_TEXT.render(block))}


def _rows(table: Table, numbers: Mapping[str, int]) -> list[list[dict[str, Any]]]:
    return [[_cell(cell, numbers, index < table.text_columns) for index, cell in enumerate(row)] for row in table.rows]


def _cell(cell: Cell, numbers: Mapping[str, int], is_text: bool) -> dict[str, Any]:
    shown, first = plain(cell.text), None if is_text else next(iter(cell.numbers.values()), None)
    return {
        "text": Markup(inline(cell.text)),
        "is_text": is_text,
        "sort": f"{first:.9g}" if first is not None else shown if shown != NOTHING else "",
        "runs": [numbers[path] for path in cell.runs if path in numbers],
    }


def _panels(figure: FigureFile, drawn: DrawnFigure) -> Iterator[dict[str, Any]]:
    for (title, curves), panel in zip(figure.data.items(), drawn.panels, strict=True):
        arms = {arm: [list(map(_short, series)) for series in vars(band).values()] for arm, band in curves.items()}
        yield {"title": title, "box": panel.box, "span": panel.span, "xlabel": panel.xlabel, "arms": arms}


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if value == value else None


def _script(value: Any) -> Markup:
    """As JSON that cannot end the script that holds it."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))

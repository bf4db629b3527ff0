"""The report as one HTML page that loads nothing. All text is escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.rendering.model import Block, Bullets, CodeBlock, Figure, Heading, Page, Picture, Table, TableCell
from analysis.rendering.text import LINE_BREAK, NOTHING, PLAIN, Line, Span, to_text

if TYPE_CHECKING:
    from analysis.rendering.plots import DrawnFigure

TEMPLATES = Path(__file__).parent / "templates"
_DIGITS = 5  # of the values that a figure shows at the mouse


def to_html(page: Page, figures: Mapping[str, DrawnFigure]) -> str:
    """The whole page. figures: its figures by name, drawn."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    numbers = {path: number for number, path in enumerate(page.runs)}
    sections = [
        {
            "key": each.key,
            "title": inline(each.title),
            "link": str(to_text(each.title)),
            "blocks": [_block(block, numbers, figures) for block in each.blocks],
        }
        for each in page.sections
    ]
    runs = [{"path": path, "facts": facts} for path, facts in page.runs.items()]
    return environment.get_template("report.html.j2").render(title=page.title, sections=sections, runs=runs)


def _block(block: Block, numbers: Mapping[str, int], figures: Mapping[str, DrawnFigure]) -> dict[str, Any]:
    """What the template shows: the kind of the block and its content."""
    match block:
        case Table():
            rows = [[_cell(cell, numbers, i < block.text_columns) for i, cell in enumerate(row)] for row in block.rows]
            header = [inline(title) for title in block.header]
            return {"kind": "table", "header": header, "rows": rows, "text_columns": block.text_columns}
        case Figure():
            drawn, caption = figures[block.name], inline(block.caption)
            svg, panels = base64.b64encode(drawn.svg).decode(), _script(_panels(block, drawn))
            return {"kind": "figure", "title": block.title, "caption": caption, "svg": svg, "panels": panels}
        case Picture():
            png, caption = base64.b64encode(block.png).decode(), inline(block.caption)
            return {"kind": "picture", "title": block.title, "caption": caption, "png": png}
        case Heading():
            return {"kind": "heading", "text": inline(block.text)}
        case Bullets():
            return {"kind": "bullets", "items": [inline(item) for item in block.items]}
        case CodeBlock():
            return {"kind": "code", "lines": block.lines}
        case _:
            return {"kind": "paragraph", "text": inline(block)}


def _cell(cell: TableCell, numbers: Mapping[str, int], is_text: bool) -> dict[str, Any]:
    shown, first = str(cell.text), None if is_text else next(iter(cell.numbers.values()), None)
    return {
        "text": inline(cell.text),
        "is_text": is_text,
        "sort": f"{first:.9g}" if first is not None else shown if shown != NOTHING else "",
        "runs": [numbers[path] for path in cell.runs if path in numbers],
    }


def _panels(figure: Figure, drawn: DrawnFigure) -> list[dict[str, Any]]:
    """For each panel its place in the figure, and each arm's four series, for the page's script."""
    return [
        {
            **{"title": panel.name, "box": place.box, "span": place.span, "xlabel": panel.xlabel},
            "arms": {arm: [list(map(_short, s)) for s in vars(band).values()] for arm, band in panel.curves.items()},
        }
        for panel, place in zip(figure.panels, drawn.places, strict=True)
    ]


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if value == value else None


def _script(value: Any) -> Markup:
    """As JSON that cannot end the script element that holds it."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def inline(line: Line) -> Markup:
    return Markup("").join(map(_span, to_text(line).spans))


def _span(span: Span) -> Markup:
    if span.style == LINE_BREAK:
        return Markup("<br>")
    if span.style == PLAIN:
        return Markup.escape(span.text)
    return Markup(f"<{span.style}>{{}}</{span.style}>").format(span.text)

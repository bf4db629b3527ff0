"""The report as one HTML page that loads nothing. All text is escaped."""

from __future__ import annotations

import gzip
import io
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from analysis.rendering.model import Figure, Heading, Page, Panel, Picture, Section, TableCell
from analysis.rendering.text import FILE_LINK, LINE_BREAK, LINK, NOTHING, PLAIN, Line, Span, sentence, slug, to_text

if TYPE_CHECKING:
    from analysis.rendering.plots import DrawnFigure

TEMPLATES = Path(__file__).parent / "templates"
_QUALITY = 80  # of WebP
_DIGITS = 4  # significant digits of the values that a figure shows at the mouse pointer


def to_html(page: Page, figures: Mapping[str, DrawnFigure]) -> str:
    """Render the whole page. figures: name -> drawn figure."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"inline": inline, "plain": lambda line: str(to_text(line))}
    environment.filters |= {"kind": lambda block: type(block).__name__, "webp": _webp}
    numbers = {path: number for number, path in enumerate(page.runs)}
    environment.filters |= {"run_number": numbers.__getitem__, "sentence": sentence}
    titles = _table_titles(page)
    functions = {
        "compressed": _compressed,
        "shared": _shared(),
        "sort_key": _sort_key,
        "anchor": _anchor,
        "table_title": lambda block: titles[id(block)],
    }
    template = environment.get_template("report.html.j2")
    return template.render(page=page, figures=figures, run_numbers=numbers, **functions)


def _table_titles(page: Page) -> dict[int, str]:
    """What screen readers call a table, by its `id()`: the headings above it; of several, the others are numbered."""
    seen: Counter[str] = Counter()
    titles = {}
    for each in page.tables:
        seen[each.title] += 1
        number = seen[each.title]
        titles[id(each.table)] = f"{each.title}, table {number}" if number > 1 else each.title
    return titles


def _sort_key(cell: TableCell, is_text: bool) -> str | None:
    """What a column is sorted by: the first number of a cell, empty if it is missing; None: the text that is shown."""
    text = str(cell.text)
    if not is_text and cell.numbers:
        key = f"{next(iter(cell.numbers.values())):.9g}"
        return None if key == text else key
    return "" if text == NOTHING else None


def _anchor(section: Section, block: Heading | Figure | Picture) -> str:
    """The id of a heading or a figure, unique in the page."""
    if isinstance(block, Heading):
        return f"{section.key}-{slug(str(to_text(block.text)))}"
    return f"{section.key}-figure-{slug(Path(block.name).stem.removeprefix(section.key))}"


def _compressed(figure: Figure, drawn: DrawnFigure) -> str:
    """For the page's script: the SVG, the area of each panel in it, and each arm's four series. JSON, gzip, base64."""
    panels = [
        {
            **{"title": panel.name, "kind": panel.kind, "box": area.box, "span": area.span},
            **{"xlabel": panel.xlabel, "labels": panel.labels, "arms": _arms(panel)},
        }
        for panel, area in zip(figure.panels, drawn.areas, strict=True)
    ]
    content = {"svg": drawn.svg.decode(), "panels": panels if figure.shows_values else []}
    return b64encode(gzip.compress(json.dumps(content).encode(), mtime=0)).decode()


def _arms(panel: Panel) -> dict[str, list[list[float | None]]]:
    """Each arm's four series. Arms without points are left out: none of their runs has finished."""
    filled = {arm: band for arm, band in panel.curves.items() if len(band.x)}
    return {arm: [list(map(_short, each)) for each in vars(band).values()] for arm, band in filled.items()}


def _shared() -> Callable[[str], tuple[str, bool]]:
    """A function that gives each content an id, and says whether it has seen the content before."""
    ids: dict[str, str] = {}

    def identify(content: str) -> tuple[str, bool]:
        is_known = content in ids
        return ids.setdefault(content, f"shared-{len(ids)}"), is_known

    return identify


def _webp(png: bytes) -> str:
    """The picture as a WebP data URI; the PNG is in the report's folder."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "webp", quality=_QUALITY)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"


def _short(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if value == value else None


def inline(line: Line) -> Markup:
    return Markup("").join(map(_span, to_text(line).spans))


def _span(span: Span) -> Markup:
    if span.style == LINE_BREAK:
        return Markup(" <br>")
    if span.style == PLAIN:
        return Markup.escape(span.text)
    if span.style == LINK:
        return Markup('<a href="#{}">{}</a>').format(span.target, span.text)
    if span.style == FILE_LINK:
        return Markup('<a href="{}">{}</a>').format(quote(span.target), span.text)
    return Markup(f"<{span.style}>{{}}</{span.style}>").format(span.text)

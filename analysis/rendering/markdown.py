"""The report as Markdown for GitHub: a main page, a page for each section with a summary, and links to figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from analysis.rendering.model import Block, Bullets, CodeBlock, Figure, Heading, Page, Picture, Section, Table
from analysis.rendering.text import (
    CODE,
    FILE_LINK,
    LINE_BREAK,
    LINK,
    PLAIN,
    STRONG,
    Line,
    Span,
    join,
    one_line,
    sentence,
    to_text,
)

# no markup: "<" before a space, ">" after a space, and "]" that is not followed by a link, reference or definition
_SPECIAL = re.compile(r"[\\`*_|#~]|\](?=[(\[:])|<(?! )|(?<! )>|&(?=#?\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def to_markdown(page: Page, name: str, folder: str) -> dict[str, str]:
    """The main page, with the key "", and the page of each section with a summary, by the name of its file.

    name: the main page's file. folder: that of figures and of all other pages, beside the main page.
    """
    place = quote(folder) + "/"
    own = {section.key: f"{section.key}.md" for section in page.sections if section.summary is not None}
    links = {key: place + quote(file) for key, file in own.items()}
    links_between = {FILE_LINK: "../", **{key: quote(file) for key, file in own.items()}}
    main = [text for section in page.sections for text in _on_main_page(section, place, links)]
    pages = {"": [f"# {page.title}", *main]}
    for section in page.sections:
        if section.key in own:
            back = f"Part of [{inline(page.title)}](../{quote(name)})."
            texts = [_block(block, "", links_between) for block in section.blocks]
            pages[own[section.key]] = [f"# {inline(section.title)}", back, *texts]
    return {file: "\n\n".join(texts) + "\n" for file, texts in pages.items()}


def _on_main_page(section: Section, place: str, links: Mapping[str, str]) -> Iterable[str]:
    if section.summary is not None:
        yield f"## [{inline(section.title)}]({links[section.key]})"
        yield inline(section.summary, links)
        return
    if section.title:
        yield f"## {inline(section.title)}"
    for block in section.blocks:
        yield _block(block, place, links)


def _block(block: Block, place: str, links: Mapping[str, str]) -> str:
    """place: what the path of a figure begins with. links: where sections are, by key, and the report's folder."""
    match block:
        case Table():
            return _table(block, links)
        case Figure() | Picture():
            alt = block.alt if isinstance(block, Figure) else block.title
            return f"![{inline(alt)}]({place}{block.name})\n\n*{inline(sentence(block.title))}* {inline(block.caption)}"
        case Heading():
            return f"### {inline(block.text)}"
        case Bullets():
            details = block.details or [""] * len(block.items)
            items = [join(" ", filter(None, each)) for each in zip(block.items, details, strict=True)]
            return "\n".join(f"- {inline(item, links)}" for item in items)
        case CodeBlock():
            return "\n".join(["```", *block.lines, "```"])
        case _:
            return inline(block, links)


def _table(table: Table, links: Mapping[str, str]) -> str:
    """Text columns are aligned to the left, the others to the right."""
    align = ["---" if index < table.text_columns else "---:" for index in range(len(table.header))]
    rows = [[inline(cell.text, links) for cell in row] for row in table.rows]
    lines = [[inline(title) for title in table.header], align, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def inline(line: Line, links: Mapping[str, str] | None = None) -> str:
    """A line within a paragraph or a table's cell. A link to a section that `links` does not have is plain text."""
    spans = to_text(line).spans
    text = one_line("".join(_span(span, links or {}) for span in spans))
    return f"\\{text}" if text.startswith("[") and spans[0].style == PLAIN else text


def _span(span: Span, links: Mapping[str, str]) -> str:
    if span.style == LINE_BREAK:
        return "<br>"
    if span.style == CODE:  # a backtick would end the code, a bar the table's cell
        return f"`{span.text.replace('`', chr(39)).replace('|', '/')}`"
    text = _SPECIAL.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), span.text)
    if span.style == LINK:
        return f"[{text}]({links[span.target]})" if span.target in links else text
    if span.style == FILE_LINK:
        return f"[{text}]({links.get(FILE_LINK, '')}{quote(span.target)})"
    return {PLAIN: text, STRONG: f"**{text}**"}.get(span.style, f"*{text}*")

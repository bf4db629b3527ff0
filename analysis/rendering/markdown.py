"""The report as Markdown for GitHub, which links to its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from analysis.rendering.model import Block, Bullets, CodeBlock, Figure, Heading, Page, Picture, Section, Table
from analysis.rendering.text import CODE, LINE_BREAK, PLAIN, STRONG, Line, Span, one_line, to_text

# no markup: "<" before a space, ">" after a space, and "]" that is not followed by a link, reference or definition
_SPECIAL = re.compile(r"[\\`*_|#~]|\](?=[(\[:])|<(?! )|(?<! )>|&(?=#?\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def to_markdown(page: Page, figure_folder: str) -> str:
    """The whole page. `figure_folder` is the relative folder for the links to figures."""
    blocks = [f"# {page.title}"]
    blocks += [block for section in page.sections for block in _section(section, quote(figure_folder))]
    return "\n\n".join(blocks) + "\n"


def _section(section: Section, folder: str) -> Iterable[str]:
    if section.title:
        yield f"## {inline(section.title)}"
    for block in section.blocks:
        yield _block(block, folder)


def _block(block: Block, folder: str) -> str:
    match block:
        case Table():
            return _table(block)
        case Figure() | Picture():
            title = inline(block.title)
            return f"![{title}]({folder}/{block.name})\n\n*{title}.* {inline(block.caption)}"
        case Heading():
            return f"### {inline(block.text)}"
        case Bullets():
            return "\n".join(f"- {inline(item)}" for item in block.items)
        case CodeBlock():
            return "\n".join(["```", *block.lines, "```"])
        case _:
            return inline(block)


def _table(table: Table) -> str:
    """Text columns are aligned to the left, the others to the right."""
    align = ["---" if index < table.text_columns else "---:" for index in range(len(table.header))]
    rows = [[inline(cell.text) for cell in row] for row in table.rows]
    lines = [[inline(title) for title in table.header], align, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def inline(line: Line) -> str:
    """A line within a paragraph or a table's cell."""
    text = one_line("".join(map(_span, to_text(line).spans)))
    return f"\\{text}" if text.startswith("[") else text


def _span(span: Span) -> str:
    if span.style == LINE_BREAK:
        return "<br>"
    if span.style == CODE:  # a backtick would end the code, a bar the table's cell
        return f"`{span.text.replace('`', chr(39)).replace('|', '/')}`"
    text = _SPECIAL.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), span.text)
    return {PLAIN: text, STRONG: f"**{text}**"}.get(span.style, f"*{text}*")

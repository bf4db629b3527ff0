"""Parts of the report as plain text for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

from analysis.rendering.model import Block, Bullets, Table
from analysis.rendering.text import Line, Text


def to_terminal(blocks: Sequence[Block]) -> str:
    """The paragraphs, lists and tables among the blocks, text at the width of the terminal. Others are left out."""
    return "\n\n".join(_texts(blocks))


def _texts(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Table):
            yield str_table(block)
        elif isinstance(block, Bullets):
            yield "\n".join(_wrap(f"- {item}", "  ") for item in block.items)
        elif isinstance(block, str | Text):
            yield _wrap(block)


def _wrap(line: Line, indent: str = "") -> str:
    width = shutil.get_terminal_size((100, 24)).columns
    return textwrap.fill(str(line), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def str_table(table: Table) -> str:
    """Columns of equal width, numbers to the right."""
    rows = [list(map(str, table.header)), *([str(cell.text) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    adjust = [str.ljust if index < table.text_columns else str.rjust for index in range(len(widths))]
    lines = [[move(cell, width) for move, cell, width in zip(adjust, row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)

"""Parts of the report as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import Block, Bullets, Table


def to_terminal(blocks: Sequence[Block]) -> str:
    """The lists and the tables among the blocks. Other blocks are left out."""
    texts = [
        str_table(block) if isinstance(block, Table) else _bullets(block)
        for block in blocks
        if isinstance(block, Table | Bullets)
    ]
    return "\n\n".join(texts)


def str_table(table: Table) -> str:
    """Columns of equal width, numbers to the right."""
    rows = [list(map(str, table.header)), *([str(cell.text) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    adjust = [str.ljust if index < table.text_columns else str.rjust for index in range(len(widths))]
    lines = [[move(cell, width) for move, cell, width in zip(adjust, row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _bullets(bullets: Bullets) -> str:
    return "\n".join(f"- {item}" for item in bullets.items)

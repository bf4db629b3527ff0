"""The report as Markdown, which links to its figures."""

from __future__ import annotations

from urllib.parse import quote

from analysis.rendering.model import Block, FigureFile, Page, Picture, Table


def to_markdown(page: Page, figure_folder: str) -> str:
    """The whole page. `figure_folder` is the relative folder for the links to figures."""
    blocks = [f"# {page.title}"]
    blocks += [_block(block, figure_folder) for section in page.sections for block in section.blocks]
    return "\n\n".join(blocks) + "\n"


def _block(block: Block, folder: str) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, FigureFile | Picture):
        return f"![{block.title}]({quote(folder)}/{block.name})\n\n*{block.title}.* {block.caption}"
    return block


def _table(table: Table) -> str:
    """The text columns are left-aligned, the rest right-aligned."""
    align = ["---" if i < table.text_columns else "---:" for i in range(len(table.header))]
    lines = [list(table.header), align, *([cell.text for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

r"""The report's tables as LaTeX: one file that compiles by itself, each table to be copied: a float, or a longtable."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.inline import latex_text, plain
from analysis.rendering.inline import to_latex as inline
from analysis.rendering.model import NamedTable, Page, Table

_HEAD = r"""% Each table stands by itself. A table (it floats) needs \usepackage{booktabs,graphicx},
% a longtable (of more rows than a page holds) \usepackage{booktabs,longtable}.
% Both need \usepackage[T1]{fontenc} for Latin letters beyond ASCII.
\RequirePackage{fix-cm} % fonts of any size
\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=1.5cm]{geometry}
\usepackage{booktabs,graphicx,longtable}
\begin{document}
"""
_PAGE_ROWS = 40  # that a page of article holds below a caption
_SEPARATION = 3  # pt, beside each column of a longtable
_LINE = 525  # pt, of the page above
_SMALLEST, _LARGEST = 3, 10  # pt, a font
_CHARACTER = 0.68  # of the font's size: the width of a digit at 5 pt, the widest


def to_latex(page: Page) -> str:
    """A document with all tables."""
    return _HEAD + "\n\n".join(_table(each) for each in page.tables) + "\n\\end{document}\n"


def _table(named: NamedTable) -> str:
    table = named.table
    align = "".join("l" if index < table.text_columns else "r" for index in range(len(table.header)))
    head, *body = (_row(row) for row in _texts(table))
    head = f"\\toprule\n{head}\n\\midrule"
    caption = rf"\caption{{{latex_text(named.title)}}}\label{{tab:{named.name}}}"
    if len(body) > _PAGE_ROWS:
        lines = [_font(table), *_longtable(align, caption, head, body), "}"]
    else:
        lines = _float(align, caption, head, body)
    return "\n".join([*lines, r"\clearpage"])


def _float(align: str, caption: str, head: str, body: Sequence[str]) -> list[str]:
    """A table as wide as it is, or scaled down to the line."""
    tabular = [rf"\begin{{tabular}}{{{align}}}", head, *body, r"\bottomrule", r"\end{tabular}%"]
    fitted = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *tabular, "}"]
    return [r"\begin{table}[htbp]", r"\centering", caption, *fitted, r"\end{table}"]


def _longtable(align: str, caption: str, head: str, body: Sequence[str]) -> list[str]:
    """A table over several pages, its head on each of them."""
    heads = [caption + r" \\", head, r"\endfirsthead", head, r"\endhead", r"\bottomrule", r"\endfoot"]
    return [rf"\begin{{longtable}}{{{align}}}", *heads, *body, r"\end{longtable}"]


def _font(table: Table) -> str:
    """Begins a group in a font in which the table is no wider than the line: a longtable cannot be scaled."""
    characters = sum(max(len(plain(text)) for text in column) for column in zip(*_texts(table), strict=True))
    size = (_LINE - 2 * _SEPARATION * len(table.header)) / (_CHARACTER * characters)
    size = min(_LARGEST, max(_SMALLEST, size))
    return rf"{{\fontsize{{{size:.1f}}}{{{1.2 * size:.1f}}}\selectfont\setlength{{\tabcolsep}}{{{_SEPARATION}pt}}"


def _texts(table: Table) -> list[list[str]]:
    return [list(table.header), *([cell.text for cell in row] for row in table.rows)]


def _row(texts: Sequence[str]) -> str:
    """A row of a table. The row before takes a '[' or '*' at its beginning for its own argument: {} is between."""
    row = " & ".join(map(inline, texts)) + r" \\"
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row

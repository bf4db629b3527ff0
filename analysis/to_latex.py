r"""The report's tables as LaTeX: one file that compiles by itself, each table to be copied (booktabs, graphicx)."""

from __future__ import annotations

from analysis.document import NamedTable, Page
from analysis.inline import latex_text
from analysis.inline import to_latex as inline

_HEAD = r"""% Each table stands by itself: it needs \usepackage{booktabs,graphicx}.
\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage[margin=1.5cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
"""
_WIDE = 7  # columns from which on a table is scaled to the line


def to_latex(page: Page) -> str:
    """A document with all tables."""
    return _HEAD + "\n\n".join(_table(each) for each in page.tables) + "\n\\end{document}\n"


def _table(named: NamedTable) -> str:
    table = named.table
    align = "".join("l" if index < table.text_columns else "r" for index in range(len(table.header)))
    rows = [list(table.header), *([cell.text for cell in row] for row in table.rows)]
    head, *body = (" & ".join(map(inline, row)) + r" \\" for row in rows)
    tabular = [
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if len(table.header) >= _WIDE or table.text_columns > 2:
        tabular = [r"\resizebox{\linewidth}{!}{%", *tabular, "}"]
    caption = rf"\caption{{{latex_text(named.title)}}}\label{{tab:{named.name}}}"
    return "\n".join([r"\begin{table}[htbp]", r"\centering", caption, *tabular, r"\end{table}", r"\clearpage"])

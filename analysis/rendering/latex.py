r"""The report's tables as one LaTeX document, from which each can be copied: as a float, or as a longtable if long."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from analysis.rendering.model import NamedTable, Page, Table
from analysis.rendering.text import CODE, EMPHASIS, LINE_BREAK, STRONG, Line, Span, Text, one_line, to_text

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
_PAGE_ROWS = 40  # number of rows on a page of article, below a caption
_SEPARATION = 3  # pt of space on each side of a longtable's column
_LINE_WIDTH = 525  # pt, for the page layout above
_MIN_FONT, _MAX_FONT = 3, 10  # pt
_CHARACTER_WIDTH = 0.68  # in units of the font size: a digit, which is relatively widest at 5 pt
_MACROS = {STRONG: r"\textbf", EMPHASIS: r"\emph", CODE: r"\texttt"}
_TRANSLATIONS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "–": "--", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''"},
    **{"−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "∞": r"$\infty$", "Δ": r"$\Delta$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$"},
}
_SUPPORTED = {*map(chr, [*range(0x20, 0x7F), *range(0xA1, 0x180)]), *"ȘșȚț—‘’‚“”„†‡•…‰‹›€™←↑→↓"} - {*"ĦħĸĿŀŉŦŧſ"}


def to_latex(page: Page) -> str:
    """A LaTeX document with all tables."""
    return _HEAD + "\n\n".join(_table(each) for each in page.tables) + "\n\\end{document}\n"


def _table(named: NamedTable) -> str:
    table = named.table
    align = "".join("l" if index < table.text_columns else "r" for index in range(len(table.header)))
    head, *body = (_row(texts) for texts in _texts(table))
    head = f"\\toprule\n{head}\n\\midrule"
    caption = rf"\caption{{{inline(named.title)}}}\label{{tab:{named.name}}}"
    if len(body) > _PAGE_ROWS:  # a longtable over several pages, with the head on each of them
        heads = [caption + r" \\", head, r"\endfirsthead", head, r"\endhead", r"\bottomrule", r"\endfoot"]
        lines = [_font(table), rf"\begin{{longtable}}{{{align}}}", *heads, *body, r"\end{longtable}", "}"]
    else:  # a table in its natural width, scaled down if it is wider than the line
        tabular = [rf"\begin{{tabular}}{{{align}}}", head, *body, r"\bottomrule", r"\end{tabular}%"]
        fitted = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *tabular, "}"]
        lines = [r"\begin{table}[htbp]", r"\centering", caption, *fitted, r"\end{table}"]
    return "\n".join([*lines, r"\clearpage"])


def _font(table: Table) -> str:
    """Begin a group in a font small enough for the table to fit the line: a longtable cannot be scaled."""
    characters = sum(max(len(str(text)) for text in column) for column in zip(*_texts(table), strict=True))
    size = (_LINE_WIDTH - 2 * _SEPARATION * len(table.header)) / (_CHARACTER_WIDTH * characters)
    size = min(_MAX_FONT, max(_MIN_FONT, size))
    return rf"{{\fontsize{{{size:.1f}}}{{{1.2 * size:.1f}}}\selectfont\setlength{{\tabcolsep}}{{{_SEPARATION}pt}}"


def _texts(table: Table) -> list[list[Text]]:
    return [list(table.header), *([cell.text for cell in row] for row in table.rows)]


def _row(texts: Sequence[Text]) -> str:
    r"""A row of a table. Begins with {} before '[' or '*', which LaTeX would read as an argument of the previous \\."""
    row = " & ".join(map(inline, texts)) + r" \\"
    return "{}" + row if row.lstrip().startswith(("[", "*")) else row


def inline(line: Line) -> str:
    """A line for pdflatex with utf8 and T1: without control characters, and [U+0180] for what that cannot show."""
    return one_line("".join(map(_span, to_text(line).spans)))


def _span(span: Span) -> str:
    if span.style == LINE_BREAK:
        return " "
    text = "".join(map(_character, unicodedata.normalize("NFC", span.text)))
    return f"{_MACROS[span.style]}{{{text}}}" if span.style else text


def _character(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cf"):
        return ""
    return _TRANSLATIONS.get(character) or (character if character in _SUPPORTED else f"[U+{ord(character):04X}]")

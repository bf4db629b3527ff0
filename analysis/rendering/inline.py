"""The Markdown within a line of the report, for formats other than Markdown: parsed by markdown-it, written by kind."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping

from markdown_it import MarkdownIt
from markdown_it.token import Token

BREAK = "<br>"
_PARSER = MarkdownIt("commonmark")
_MARKS = re.compile(r"[\\`*_\[\]<>&\n]")
_HTML = {"strong_open": "<strong>", "strong_close": "</strong>", "em_open": "<em>", "em_close": "</em>"}
_HTML |= {"break": "<br>", "code_open": "<code>", "code_close": "</code>"}
_LATEX = {"strong_open": r"\textbf{", "strong_close": "}", "em_open": r"\emph{", "em_close": "}"}
_LATEX |= {"break": " ", "code_open": r"\texttt{", "code_close": "}"}
_LATEX_TEXT = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "–": "--", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''"},
    **{"−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "∞": r"$\infty$", "Δ": r"$\Delta$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$"},
}
_LATEX_KNOWS = {*map(chr, [*range(0x20, 0x7F), *range(0xA1, 0x180)]), *"ȘșȚț—‘’‚“”„†‡•…‰‹›€™←↑→↓"} - {*"ĦħĸĿŀŉŦŧſ"}


def to_html(text: str) -> str:
    """Of a line of Markdown, as HTML; whatever it says literally is escaped."""
    return _written(text, html.escape, _HTML)


def to_latex(text: str) -> str:
    """Of a line of Markdown, as LaTeX (see `latex_text`)."""
    return _written(text.replace("\0", ""), latex_text, _LATEX)


def plain(text: str) -> str:
    """A line of Markdown without its marks; a break is a space."""
    return _written(text, str, {"break": " "})


def slug(text: str) -> str:
    """Plain text as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _written(text: str, literal: Callable[[str], str], marks: Mapping[str, str]) -> str:
    if not _MARKS.search(text):  # most cells: the parser takes far longer
        return literal(" ".join(text.split()))
    return "".join(_piece(token, literal, marks) for token in _PARSER.parseInline(text)[0].children or [])


def _piece(token: Token, literal: Callable[[str], str], marks: Mapping[str, str]) -> str:
    if token.type == "code_inline":
        return marks.get("code_open", "") + literal(token.content) + marks.get("code_close", "")
    if token.type == "html_inline" and token.content == BREAK:
        return marks["break"]
    if token.type in ("softbreak", "hardbreak"):
        return " "
    return literal(token.content) if token.content else marks.get(token.type, "")


def latex_text(text: str) -> str:
    """Plain text for pdflatex with utf8 and T1: without control characters, [U+0180] for what it does not know."""
    return "".join(map(_latex_character, unicodedata.normalize("NFC", text)))


def _latex_character(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cf"):
        return ""
    return _LATEX_TEXT.get(character) or (character if character in _LATEX_KNOWS else f"[U+{ord(character):04X}]")

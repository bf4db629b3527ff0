"""Text of the report as spans of one style each, and numbers as text. Writers escape and mark up the spans."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = "–"  # shown in place of a missing value
PLAIN, STRONG, EMPHASIS, CODE, LINK, LINE_BREAK = "", "strong", "em", "code", "a", "br"  # HTML's names
FILE_LINK = "file"


@dataclass(frozen=True)
class Span:
    """Text in one style. A line break has no text.

    target: of a link, the key of a section; of a link to a file, its path relative to the report's folder.
    """

    text: str
    style: str = PLAIN
    target: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text. `+` joins it with other lines; `str` gives the text alone."""

    spans: tuple[Span, ...] = ()

    def __add__(self, other: Line) -> Text:
        ours, theirs = self.spans, to_text(other).spans
        if ours and theirs and ours[-1].style == theirs[0].style == PLAIN:
            return Text((*ours[:-1], Span(ours[-1].text + theirs[0].text), *theirs[1:]))
        return Text(ours + theirs)

    def __radd__(self, other: str) -> Text:
        return to_text(other) + self

    def __str__(self) -> str:
        return one_line("".join(" " if span.style == LINE_BREAK else span.text for span in self.spans))


Line = str | Text
BREAK = Text((Span("", LINE_BREAK),))


def to_text(line: Line) -> Text:
    return line if isinstance(line, Text) else Text((Span(line),) if line else ())


def strong(text: object) -> Text:
    return Text((Span(one_line(str(text)), STRONG),))


def emphasis(text: object) -> Text:
    return Text((Span(one_line(str(text)), EMPHASIS),))


def code(text: object) -> Text:
    return Text((Span(one_line(str(text)), CODE),))


def link(text: object, section: str) -> Text:
    """A link to the section with this key."""
    return Text((Span(one_line(str(text)), LINK, section),))


def file_link(text: object, path: str) -> Text:
    """A link to the file with this path, relative to the report's folder."""
    return Text((Span(one_line(str(text)), FILE_LINK, path),))


def join(separator: Line, lines: Iterable[Line]) -> Text:
    """Like `str.join`, for lines with styles."""
    joined = Text()
    for position, line in enumerate(lines):
        joined = joined + separator + line if position else to_text(line)
    return joined


def sentence(title: str) -> str:
    """A title that text follows: with a full stop, unless it is a question."""
    return title if title.endswith("?") else f"{title}."


def one_line(text: str) -> str:
    return " ".join(text.split())


def slug(text: str) -> str:
    """`text` as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def number(value: float | None, digits: int = 2, sign: str = "-") -> str:
    """'41.00', or with the sign "+" '+41.00'; a value that rounds to zero has no sign."""
    if value is None:
        return NOTHING
    text = f"{value:{sign}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def signed(value: float | None, digits: int = 2) -> str:
    """'+1.90'."""
    return number(value, digits, "+")


def mean_sd(mean: float | None, sd: float | None, digits: int = 2) -> str:
    """'41.00 ± 1.00'; the mean alone if one seed gives no sd."""
    return number(mean, digits) if mean is None or sd is None else f"{number(mean, digits)} ± {number(sd, digits)}"


def interval(low: float | None, high: float | None, digits: int = 2, is_signed: bool = True) -> str:
    """'[+8.48, +11.52]'; empty if either end is unknown."""
    shown = signed if is_signed else number
    return "" if low is None or high is None else f"[{shown(low, digits)}, {shown(high, digits)}]"

"""Markdown as GitHub renders it: tables, figures, and numbers in text. Text from records is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOTHING = "–"


def escape(text: object) -> str:
    """Text of a record as one line that Markdown and HTML leave alone."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)


def code(text: object) -> str:
    """Text of a record as code in a line; a backtick or a bar would end the code or the table's cell."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39)).replace('|', '/')}`"


def bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def number(value: float | None, digits: int = 2) -> str:
    """A plain number, without a minus before a printed zero."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; a printed zero has none."""
    if value is None:
        return NOTHING
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def mean_sd(mean: float | None, sd: float | None, digits: int = 2) -> str:
    """mean ± sd; the mean alone where one seed gives no sd."""
    if mean is None or sd is None:
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(sd, digits)}"


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """[low, high] with signs; empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """[low, high] of what is no difference; empty where there is none."""
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def one_of(noun: str, count: int) -> str:
    """'1 seed', '3 seeds'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

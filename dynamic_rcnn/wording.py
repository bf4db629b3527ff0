"""Wording that messages and the report share."""

from __future__ import annotations


def plural(noun: str, count: int) -> str:
    """'1 seed', '3 seeds', '3 processes'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"

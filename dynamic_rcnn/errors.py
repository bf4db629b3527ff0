"""The one error that is shown to users without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: its message is one line that says what is wrong, the rule, and the way out. Exit code 2."""


def unknown_name(kind: str, names: Iterable[str], valid: Iterable[str], where: str = "") -> UserError:
    """The error for misspelt names: all of them, with the valid ones."""
    listed = ", ".join(repr(name) for name in names)
    place = f" in {where}" if where else ""
    return UserError(f"unknown {kind} {listed}{place}; valid: {', '.join(sorted(map(str, valid)))}")

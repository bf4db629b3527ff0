"""The errors that have a meaning of their own: bad input, and the ends of a run that are no crash."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: its message is one line that says what is wrong, the rule, and the way out. Exit code 2."""


def unknown_name(kind: str, names: Iterable[str], valid: Iterable[str], where: str = "") -> UserError:
    """The error for misspelt names: all of them, with the valid ones."""
    listed = ", ".join(repr(name) for name in names)
    place = f" in {where}" if where else ""
    return UserError(f"unknown {kind} {listed}{place}; valid: {', '.join(sorted(map(str, valid)))}")


class NaNLossError(Exception):
    """The loss of an iteration is not finite."""


class InterruptedRunError(Exception):
    """A signal asked the run to stop; its checkpoint is written."""


class LostProcessError(Exception):
    """The run's processes have not found each other, or one of them is gone."""

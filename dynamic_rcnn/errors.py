"""Exceptions for bad input, and for ways in which a run can end without a crash."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one line with the fault, the rule and how to fix it. Exit code 2."""


def unknown_name(kind: str, names: Iterable[str], valid: Iterable[str], where: str = "") -> UserError:
    """The error for unknown names: it lists all of them, and the valid ones."""
    listed = ", ".join(repr(name) for name in names)
    place = f" in {where}" if where else ""
    return UserError(f"unknown {kind} {listed}{place}; valid: {', '.join(sorted(map(str, valid)))}")


class NaNLossError(Exception):
    """The loss of an iteration is not finite."""


class NoPositivesError(Exception):
    """The first iterations had no positives: no ground-truth box reached the head."""


class InterruptedRunError(Exception):
    """A signal asked the run to stop; its checkpoint is written."""


class LostProcessError(Exception):
    """The processes of a run could not connect to each other, or one of them died."""


class PreflightError(Exception):
    """The check before training failed. node: the one at fault; None if it is not known which of several."""

    def __init__(self, node: str | None, message: str) -> None:
        super().__init__(f"{node}: {message}" if node else message)
        self.node = node

"""A finding of action=doctor."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, BAD = "ok", "note", "BAD"


@dataclass(frozen=True)
class Finding:
    """One line: how serious it is (`level`), what was checked, and the result."""

    level: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}: {self.text}"

"""A line of action=doctor."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, BAD = "ok", "note", "BAD"


@dataclass(frozen=True)
class Finding:
    level: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.what}: {self.text}"

"""Checksums of files, also large ones. Imports no torch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_NAMED = re.compile(r"-([0-9a-f]{8})\.pth$")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's content."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def named_digest(path: Path) -> str | None:
    """The first 8 hex digits of the sha256 in the name of a weights file (OpenMMLab: name-62a3f276.pth), or None."""
    found = _NAMED.search(path.name)
    return found[1] if found else None

"""requirements.lock: the version of every package that the committed results were made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dynamic_rcnn import PROJECT

LOCK = PROJECT / "requirements.lock"


def read_lock(path: Path = LOCK) -> Iterator[Requirement]:
    """Yield the requirements of a lock file that apply to this Python and platform."""
    for line in path.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def compare_with_lock(path: Path = LOCK) -> dict[str, Any] | None:
    """Compare the installed packages with a lock file.

    Packages that are not installed, such as the tools for development on a cluster, are left out.

    Returns:
        {"sha256": of the file, "differences": {package: {"locked": "==1.2", "installed": "1.3"}}}; None without a file.
    """
    if not path.exists():
        return None
    installed = {canonicalize_name(item.name): item.version for item in metadata.distributions() if item.name}
    differences = {}
    for requirement in read_lock(path):
        version = installed.get(canonicalize_name(requirement.name))
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            differences[requirement.name] = {"locked": str(requirement.specifier), "installed": version}
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "differences": differences}

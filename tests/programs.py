"""Programs that some tests need beside Python's packages."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = "REQUIRE_PROGRAMS"


def program(name: str) -> str:
    """The path of a program. If it is not installed, skips the test, or fails it if REQUIRE_PROGRAMS=1 (as in CI)."""
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get(REQUIRED) == "1" else pytest.skip)(f"{name} is not installed")
    return str(path)

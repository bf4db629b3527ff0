"""Commands started from a notebook, whose kernel exports a matplotlib backend that this environment does not have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dynamic_rcnn import PROJECT, cli

BACKEND = "module://no_such_package.backend_inline"


@pytest.mark.parametrize(
    "command",
    [
        ["analysis/report.py"],
        ["analysis/images.py"],  # imports matplotlib
        ["docs/picture.py"],  # too
        ["-m", "dynamic_rcnn.tools.export_test_dev"],  # imports mmdet, which does
    ],
    ids=" ".join,
)
def test_a_command_starts_with_the_backend_of_a_notebook(command: list[str]) -> None:
    environment = {**os.environ, "MPLBACKEND": BACKEND}
    done = subprocess.run([sys.executable, *command, "--help"], cwd=PROJECT, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_a_command_imports_while_it_works_has_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training imports mmdet late, and its worker processes inherit the environment."""
    monkeypatch.setenv("MPLBACKEND", BACKEND)
    assert cli.report_errors(lambda: len(os.environ["MPLBACKEND"])) == len("agg")

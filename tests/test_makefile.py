"""make ablation: the report is written even if an earlier step failed, and the exit code reports the failure."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"
STEPS = ("experiments/launch.py", "analysis/images.py", "analysis/report.py")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("failing", [None, *STEPS])
def test_every_step_is_run_and_its_failure_is_not_lost(tmp_path: Path, failing: str | None) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/called\n[ "$1" != "{failing}" ]\n')
    python.chmod(0o755)
    (tmp_path / "installed").touch()
    command = ["make", "-f", str(MAKEFILE), "ablation", f"BIN={tmp_path}", f"INSTALLED={tmp_path / 'installed'}"]
    done = subprocess.run(command, cwd=MAKEFILE.parent, capture_output=True, text=True)
    assert (tmp_path / "called").read_text().split() == list(STEPS)
    assert (done.returncode != 0) == (failing is not None), done.stdout + done.stderr

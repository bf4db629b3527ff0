"""A launch whose terminal or pipe is closed continues: its runs are trained, and the waiting ones start."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.experiments.launches import Folder, wait_until


@pytest.mark.parametrize("closed", ["terminal", "stdout", "stdout and stderr"])
def test_a_launch_continues_without_its_output(tmp_path: Path, closed: str) -> None:
    folder = Folder(tmp_path)
    process = folder.start("arms=[baseline,dla,both]", baseline={"hold": 5}, dla={"hold": 5})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    if closed == "terminal":
        wait_until(lambda: folder.iteration("baseline") and folder.iteration("dla"))
        process.send_signal(signal.SIGHUP)
    else:
        process.stdout.close()
        if closed == "stdout and stderr":
            process.stderr.close()
        wait_until(lambda: folder.iteration("baseline") and folder.iteration("dla"))
    folder.release("baseline")
    folder.release("dla")
    assert process.wait(timeout=300) == 0
    assert [folder.status(arm)["state"] for arm in ("baseline", "dla", "both")] == ["done"] * 3
    if closed == "stdout":
        error = "the output cannot be written (Broken pipe); the launch continues without it\n"
        assert process.stderr.read() == error
    process.stdout.close()
    process.stderr.close()

"""Launch grids in tests, with the real command or with a fake trainer."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from experiments import launch
from experiments.launching import local
from experiments.planning.run_state import code_now

PROJECT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, str(PROJECT / "experiments" / "launch.py")]
TRAINER = Path(__file__).with_name("fake_trainer.py")
WITH_FAKE_TRAINER = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
from experiments.launching import local
from experiments.launch import main
local.TRAINER = (sys.executable, {str(TRAINER)!r})
sys.exit(main(sys.argv[1:]))
"""
# the smallest data set, and runs of 20 iterations
SMALL = ("grid=smoke", "dataset.recipe.train_images=2", "dataset.recipe.val_images=1")


class Folder:
    """A folder for runs and drawn shapes, to launch into. pretrain: whether the arms start from a shared run."""

    def __init__(self, path: Path, pretrain: bool = False) -> None:
        self.path = path
        self.runs = path / "runs"
        self.shared = () if pretrain else ("base.pretrain=null",)

    def arguments(self, *more: str) -> list[str]:
        folders = (f"runs={self.runs}", f"dataset.root={self.path / 'shapes'}")
        here = () if any(item.startswith("cluster=") for item in more) else ("cluster=local", "cluster.slots=2")
        return [*SMALL, *self.shared, *folders, *here, *more]

    def start(self, *more: str, fake: bool = True, **behaviour: Any) -> subprocess.Popen[str]:
        """Start a launcher in a separate process. behaviour: what the fake trainer does, by arm."""
        command = [sys.executable, "-c", WITH_FAKE_TRAINER] if fake else LAUNCH
        return subprocess.Popen(
            [*command, *self.arguments(*more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_environment(behaviour)},
            cwd=self.path,
        )

    def launch(self, *more: str, **behaviour: Any) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a launcher in this process; its runs are processes."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(local, "TRAINER", (sys.executable, str(TRAINER))),
            mock.patch.dict(os.environ, _environment(behaviour)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = launch.main(self.arguments(*more))
        return code, out.getvalue(), err.getvalue()

    def run(self, arm: str, seed: int = 0) -> Path:
        """The directory of an arm's only run of this seed."""
        (found,) = [path for path in self.runs.glob(f"*/{arm}/seed{seed}-*") if "." not in path.name]
        return found

    def status(self, arm: str, seed: int = 0) -> dict[str, Any]:
        return dict(json.loads((self.run(arm, seed) / "status.json").read_text()))

    def release(self, arm: str) -> None:
        """Let a held run continue (see fake_trainer.py)."""
        (self.run(arm) / "go").touch()

    def iteration(self, arm: str) -> int:
        """How far the arm's run is; 0 before it has begun."""
        try:
            return int(self.status(arm)["iteration"])
        except (OSError, ValueError):
            return 0


def _environment(behaviour: dict[str, Any]) -> dict[str, str]:
    return {
        "FAKE_TRAINER": json.dumps(behaviour),
        "FAKE_CODE": code_now(),
        "PYTHONPATH": str(PROJECT),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "400",  # a test's folders have long names
    }


def wait_until(condition: Callable[[], object], seconds: float = 300, every: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(every)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """The modification time and size of everything in a folder."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Wait until a launcher prints a line with this text."""
    assert process.stdout is not None
    lines = []
    while text not in (line := process.stdout.readline()):
        lines.append(line)
        assert line, f"it ended without printing {text!r}: {lines}"


def end(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err

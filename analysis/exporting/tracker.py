"""What the tools have in common: `Tracker.export` adds to a tracker's run what it lacks."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from analysis.exporting.exported_run import ExportedRun, State
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import write_bytes_atomic

STATE = "exported.json"
PROJECT = "dynamic-rcnn"  # what tools call a project or an experiment


class Tracker(ABC):
    """A tool that shows runs. Subclasses write, and say where and how to look.

    Attributes:
        out: the folder of everything that is written.
        look: the command that shows it.
        open: closes what stays open from one export to the next.
    """

    def __init__(self, out: Path, look: str) -> None:
        self.out, self.look = out, look
        self.open = ExitStack()

    def export(self, run: ExportedRun) -> bool:
        """Bring the tracker's run up to date. Returns whether anything was written.

        The state is forgotten while the tracker's run is incomplete: if the process is killed, the next export
        replaces it.
        """
        state = self.read_state(run)
        if state == run.state:
            return False
        self.write_state(run, None)
        self.write(run, state.points if state is not None and run.continues(state) else None)
        self.write_state(run, run.state)
        return True

    @abstractmethod
    def write(self, run: ExportedRun, first: int | None) -> None:
        """Write the tags and the points from number `first` on. None: replace the tracker's run, if there is one."""

    def read_state(self, run: ExportedRun) -> State | None:
        path = self.folder(run) / STATE
        return from_text(path.read_text("utf-8")) if path.exists() else None

    def write_state(self, run: ExportedRun, state: State | None) -> None:
        path = self.folder(run) / STATE
        if state is None:
            path.unlink(missing_ok=True)
        else:
            write_bytes_atomic(path, to_text(state).encode())

    def folder(self, run: ExportedRun) -> Path:
        return self.out / run.name


def to_text(state: State | None) -> str:
    return "" if state is None else json.dumps(state)


def from_text(text: str | None) -> State | None:
    return State(*json.loads(text)) if text else None


def require(package: str) -> Any:
    """Import the package of a tracker. Raises UserError if it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"to={package}: needs the package {error.name}; pip install '{package}'") from None

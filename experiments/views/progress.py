"""What a launch shows while it runs: a live table on a terminal, else plain lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.config.grid import Grid
from experiments.planning.run_state import PlannedRun, disk_plan, note_failed_needs
from experiments.views import tables

_UPDATE_S = 1.0
_LINES_S = 15.0


@contextmanager
def progress(grid: Grid, runs: Path) -> Iterator[Callable[[], None]]:
    """Yield a function to call often, which shows the progress of the grid's runs about once per second."""
    show = _LiveTable() if tables.console().is_terminal else _PlainLines()
    last = 0.0

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last >= _UPDATE_S:
            last = time.monotonic()
            show(note_failed_needs(disk_plan(grid, runs)))

    try:
        yield tick
    finally:
        if isinstance(show, _LiveTable):
            with contextlib.suppress(Exception):  # if the table cannot be drawn, the error has already been reported
                show.live.stop()


class _LiveTable:
    """The status table, redrawn in place."""

    def __init__(self) -> None:
        from rich.live import Live

        self.live = Live(console=tables.console(), auto_refresh=False, transient=True)

    def __call__(self, plan: Sequence[PlannedRun]) -> None:
        self.live.start()
        size = self.live.console.size
        self.live.update(tables.live_table(plan, size.width, size.height), refresh=True)


class _PlainLines:
    """A line for each change of state, and every few seconds one for each running run that has made progress."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.progress: dict[str, str] = {}
        self.last = 0.0

    def __call__(self, plan: Sequence[PlannedRun]) -> None:
        show_running = time.monotonic() - self.last > _LINES_S
        for run in plan:
            name = run.spec.name
            if self.states.get(name, run.state) != run.state:
                print(run.line, flush=True)
            self.states[name] = run.state
            if show_running and run.state == "running":
                line = tables.progress_line(run)
                if self.progress.get(name) != line:
                    print(line, flush=True)
                self.progress[name] = line
        if show_running:
            self.last = time.monotonic()

"""What a launch shows while it works: a live table on a terminal, else a plain line a run now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.config.grid import Grid
from experiments.planning.run_state import disk_plan, with_needs
from experiments.views import tables

_TABLE_EVERY_S = 1.0
_LINES_EVERY_S = 15.0


@contextmanager
def progress(grid: Grid, runs: Path) -> Iterator[Callable[[], None]]:
    """A function to call often."""
    console = tables.console()
    if not console.is_terminal:
        yield _PlainProgress(grid, runs)
        return
    from rich.live import Live

    last = 0.0

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > _TABLE_EVERY_S:
            last = time.monotonic()
            live.update(tables.live_table(with_needs(disk_plan(grid, runs)), console.width, console.height))

    with Live(console=console, refresh_per_second=2, transient=True) as live:
        yield tick


class _PlainProgress:
    """Changes of state as they come, and a line a running run every few seconds."""

    def __init__(self, grid: Grid, runs: Path) -> None:
        self.grid, self.runs = grid, runs
        self.states: dict[str, str] = {}
        self.last_check = self.last_lines = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.last_check < _TABLE_EVERY_S:
            return
        self.last_check = now
        plan = with_needs(disk_plan(self.grid, self.runs))
        for run in plan:
            if self.states.get(run.spec.name, run.state) != run.state:
                print(f"{run.spec.name}: {run.state}{': ' + run.why if run.why else ''}", flush=True)
            self.states[run.spec.name] = run.state
        if now - self.last_lines > _LINES_EVERY_S:
            self.last_lines = now
            for run in plan:
                if run.state == "running":
                    print(tables.progress_line(run), flush=True)

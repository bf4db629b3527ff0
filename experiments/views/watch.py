"""action=status watch=true on a terminal: the list of runs, redrawn in place, and keys to show a run's log or cause."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from dynamic_rcnn import cli
from experiments.config.grid import Grid
from experiments.planning.plan import in_progress, plan_or_disk, refresh_seconds
from experiments.planning.run_state import PlannedRun, lost_copies
from experiments.planning.trajectory import describe_trajectory
from experiments.views import logs, tables
from experiments.views.keys import pressed_keys
from experiments.views.run_list import draw_list, list_items, sort_by_arm

_LIST, _LOG, _CAUSE = "list", "log", "cause"  # what is shown
_SHOWN_BY = {"l": _LOG, "c": _CAUSE, "escape": _LIST}
_KEYS = "up/down or j/k: select  l: log  c: cause  q: quit"
_KEYS_OF_A_RUN = "up/down or j/k: other run  l: log  c: cause  escape: back  q: quit"
_FIRST_PAUSE_S = 1.0
_WAIT_S = 0.25  # for a key, before the plan and the size of the terminal are looked at again
_PAUSES = 4  # the pause after the plan was read is at least this many times as long as reading it


def can_watch(console: Console) -> bool:
    """Whether there is a terminal that can be redrawn and whose keys can be read."""
    return console.is_terminal and not console.is_dumb_terminal and os.isatty(0)


def watch(grid: Grid, runs: Path, console: Console) -> bool:
    """Show the grid's runs until q is pressed. Returns whether it was.

    Without any key it ends as soon as nothing is queued or running any more, unless nothing was to begin with.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the terminal is as it was before.
    """
    view, plans, signals = View(grid, runs, *plan_or_disk(grid, runs)), _Plans(grid, runs), list[int]()
    attended = not in_progress(view.runs)
    with (
        cli.handle_signals([signal.SIGINT, signal.SIGTERM], signals.append),
        pressed_keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        pressed, drawn = list[str](), None
        while not signals:
            newest, size = plans.newest(), console.size
            if newest is not None:
                view.update(*newest)
            if not attended and not in_progress(view.runs):
                return False
            if pressed or newest is not None or size != drawn:
                live.update(view.draw(*size), refresh=True)
            pressed, drawn = keys(_WAIT_S), size
            attended = attended or bool(pressed)
            for key in pressed:
                view.press(key)
            if "q" in pressed:
                return True
    if signals[0] == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signals[0])


class _Plans:
    """Reads the plan again and again in a thread, so that keys are answered while the disk or Slurm is slow."""

    def __init__(self, grid: Grid, runs: Path) -> None:
        self.grid, self.runs = grid, runs
        self.reading: Future[tuple[list[PlannedRun], str | None]] | None = None
        self.changed = time.monotonic()  # when reading began or ended
        self.pause = _FIRST_PAUSE_S

    def newest(self) -> tuple[list[PlannedRun], str | None] | None:
        """What `plan_or_disk` returned since the last call; None if it has not ended since."""
        seconds = time.monotonic() - self.changed
        if self.reading is None and seconds >= self.pause:
            self.reading = Future()
            threading.Thread(target=_read, args=(self.grid, self.runs, self.reading), daemon=True).start()
        elif self.reading is not None and self.reading.done():
            found = self.reading.result()
            self.reading, self.pause = None, max(refresh_seconds(found[0]), _PAUSES * seconds)
        else:
            return None
        self.changed = time.monotonic()
        return None if self.reading else found


def _read(grid: Grid, runs: Path, reading: Future[tuple[list[PlannedRun], str | None]]) -> None:
    try:
        reading.set_result(plan_or_disk(grid, runs))
    except Exception as error:
        reading.set_exception(error)


class View:
    """What is on the screen: the list of runs with one selected, or the log or cause of the selected run.

    Attributes:
        runs: the grid's runs, in the order of the list.
        notes: lines above the list.
        selected: the index of a run.
        shown: the list, a log or a cause.
        top: the line of the list that is the first on the screen.
        page: the number of lines of the list on the screen.
    """

    def __init__(self, grid: Grid, folder: Path, plan: Sequence[PlannedRun], slurm_error: str | None) -> None:
        self.grid, self.folder = grid, folder
        self.update(plan, slurm_error)
        states = [run.state for run in self.runs]
        self.selected = next((states.index(state) for state in ("running", "failed") if state in states), 0)
        self.shown, self.top, self.page = _LIST, 0, 1

    def update(self, plan: Sequence[PlannedRun], slurm_error: str | None) -> None:
        """Show another state of the same runs."""
        self.runs = sort_by_arm(plan)
        self.items = list_items(self.runs)
        self.notes = [note for note in (lost_copies(plan), slurm_error) if note]

    def press(self, key: str) -> None:
        """Change what is shown as a key demands."""
        steps = {"up": -1, "down": 1, "page up": -self.page, "page down": self.page}
        steps |= {"home": -len(self.runs), "end": len(self.runs)}
        self.selected = max(0, min(len(self.runs) - 1, self.selected + steps.get(key, 0)))
        self.shown = _SHOWN_BY.get(key, self.shown)

    def draw(self, width: int, height: int) -> Text:
        """The screen: `height` lines, or a few if it is smaller."""
        run = self.runs[self.selected]
        if self.shown == _LIST:
            lines = self._list(run, width, height)
        else:
            content = self._log(run, height) if self.shown == _LOG else _cause(run)
            wrapped = [part for line in content for part in textwrap.wrap(line, width) or [""]]
            rows = max(1, height - 2)
            body = wrapped[-rows:] if self.shown == _LOG else wrapped[:rows]
            lines = [Text(run.line, style="bold"), *map(Text, body), Text(_KEYS_OF_A_RUN, style="dim")]
        return Text("\n", no_wrap=True, overflow="ellipsis", end="").join(lines)

    def _list(self, run: PlannedRun, width: int, height: int) -> list[Text]:
        title = f"{self.grid.name} on {self.grid.dataset}: {tables.counts(self.runs)}"
        self.page = max(1, height - len(self.notes) - 4)  # less the title, the head, the selected run and the keys
        at = next(at for at, item in enumerate(self.items) if item is run)
        self.top = max(at - self.page + 1, min(self.top, at - 1, len(self.items) - self.page), 0)
        shown = self.items[self.top : self.top + self.page]
        head = [Text(title, style="bold"), *map(Text, self.notes)]
        return [*head, *draw_list(shown, run, width), Text(run.line), Text(_KEYS, style="dim")]

    def _log(self, run: PlannedRun, rows: int) -> list[str]:
        """The ends of the logs that action=logs prints, together about `rows` lines."""
        paths = logs.all_logs(run, self.grid, self.folder)
        if not paths:
            return ["no log: no attempt has started"]
        each = max(2, rows // len(paths))
        return [line for path in paths for line in (f"==> {path}", *map(_plain, logs.tail(path, each - 1)))]


def _plain(line: str) -> str:
    """A line of a log without what would move the cursor or change colors."""
    return Text.from_ansi(line).plain


def _cause(run: PlannedRun) -> list[str]:
    """Why the run is in its state, how its attempts ended, and how T and beta compare with published curves."""
    lines = [run.why or f"no failure: {run.state}", ""]
    for each in run.attempts:
        where = f"on {each.nodes or each.host}" + (f", job {each.job}" if each.job else "")
        reached = f"iterations {each.from_iteration} to {each.to_iteration}"
        lines.append(f"attempt {each.number}: {each.outcome or 'running'}, {reached}, {where}")
        lines += [f"    {note}" for note in each.notes]
    return [*lines, "", *filter(None, [describe_trajectory(run)]), f"directory: {run.path}"]

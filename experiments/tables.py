"""The launcher's tables: plan and status, for a terminal or a pipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import LOGS, STATUS, read_json, read_metrics
from experiments.plan import PlannedRun, last_row

STATES = {"done": "green", "running": "cyan", "failed": "red", "stale": "yellow", "new": "dim"}
# name -> the width of the terminal from which on it is shown
_COLUMNS = {
    "run": 0,
    "state": 0,
    "iteration": 0,
    "%": 120,
    "left": 45,
    "loss": 55,
    "T": 65,
    "beta": 75,
    "AP": 85,
    "AP90": 95,
    "attempts": 120,
    "cause": 105,
}
_PIPE_WIDTH = 200


def console() -> Console:
    """A console as wide as the terminal; wide and plain into a pipe."""
    plain = Console(highlight=False)
    if plain.is_terminal:
        return plain
    return Console(highlight=False, width=int(os.environ.get("COLUMNS") or _PIPE_WIDTH))


def plan_table(plan: Sequence[PlannedRun]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "id", "state", "iterations", "why"):
        table.add_column(column, overflow="fold")
    for run in plan:
        iterations = f"{run.iteration}/{run.iterations or '?'}"
        table.add_row(run.spec.name, run.spec.id, _styled(run.state), iterations, escape(run.why))
    return table


def status_table(plan: Sequence[PlannedRun], width: int) -> Table:
    """A row a run: state, progress, the newest logged values, results, attempts and cause of failure.

    On a terminal of few columns (`width`) the less important ones are left out.
    """
    names = [name for name, least in _COLUMNS.items() if width >= least]
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name != "cause")
    for run in plan:
        cells = _cells(run)
        table.add_row(*(cells[name] for name in names))
    return table


def live_table(plan: Sequence[PlannedRun], width: int, height: int) -> RenderableType:
    """The status table as far as it fits a terminal of `height` lines, running runs first, under a line of counts."""
    order = {"running": 0, "failed": 1, "new": 2, "stale": 3, "done": 3}
    rows = max(1, height - 4)
    shown = plan if len(plan) <= rows else sorted(plan, key=lambda run: order[run.state])[:rows]
    hidden = f" ({len(shown)} of {len(plan)} shown)" if len(shown) < len(plan) else ""
    return Group(counts(plan) + hidden, status_table(shown, width))


def counts(plan: Sequence[PlannedRun]) -> str:
    """How many runs are in which state."""
    numbers = {state: sum(run.state == state for run in plan) for state in reversed(STATES)}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


def failures(plan: Sequence[PlannedRun], lines: int = 5) -> RenderableType:
    """What failed and why, with the last lines of each log."""
    parts: list[RenderableType] = []
    for run in plan:
        if run.state == "failed":
            parts.append(f"[red]{run.spec.name}[/red] {escape(run.why)}")
            log = _newest_log(run)
            if log is not None:
                tail = log.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join(escape(f"    {line}") for line in [f"{log}:", *tail]))
    return Group(*parts)


def progress_line(run: PlannedRun) -> str:
    """One plain line about a running run."""
    row = last_row(run.path)
    if not row:
        return f"{run.spec.name}: starting"
    return (
        f"{run.spec.name}: iteration {run.iteration}/{run.iterations or '?'}  loss {row['loss']:.3f}  "
        f"T {row['T']:.3f}  beta {row['beta']:.3f}  {_left(run, row) or '?'} left"
    )


def _cells(run: PlannedRun) -> dict[str, str]:
    row, metrics = last_row(run.path), _metrics(run)
    return {
        "run": run.spec.name,
        "state": _styled(run.state),
        "iteration": f"{run.iteration}/{run.iterations or '?'}",
        "%": f"{100 * run.iteration / run.iterations:.0f}" if run.iterations else "",
        "left": _left(run, row) if run.state == "running" else "",
        **{key: f"{row[key]:.3f}" if row else "" for key in ("loss", "T", "beta")},
        **{key: f"{100 * metrics[key]:.1f}" if metrics.get(key) is not None else "" for key in ("AP", "AP90")},
        "attempts": str(_attempts(run) or ""),
        "cause": "" if run.state in ("running", "done") else escape(run.why),
    }


def _styled(state: str) -> str:
    return f"[{STATES[state]}]{state}[/{STATES[state]}]"


def _metrics(run: PlannedRun) -> dict[str, Any]:
    try:
        return dict(read_metrics(run.path)["metrics"])
    except UserError:
        return {}


def _attempts(run: PlannedRun) -> int:
    try:
        attempts = read_json(run.path / STATUS).get("attempts")
    except UserError:
        return 0
    return len(attempts) if isinstance(attempts, list) else 0


def _newest_log(run: PlannedRun) -> Path | None:
    logs = sorted((run.path / LOGS).glob("attempt*.log"), key=lambda path: path.stat().st_mtime)
    return logs[-1] if logs else None


def _left(run: PlannedRun, row: dict[str, Any]) -> str:
    """The time that a running run still takes, as h:mm:ss or m:ss; "" where it cannot be said."""
    if not row or not run.iterations:
        return ""
    minutes, second = divmod(round((run.iterations - run.iteration) * row["seconds"]), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"

"""The launcher's tables: plan and status, for a terminal or a pipe."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dynamic_rcnn.run.spec import EVALUATE
from experiments.planning.run_state import PlannedRun, last_evaluation, last_row
from experiments.views import logs

STATES = {"done": "green", "running": "cyan", "queued": "blue", "failed": "red", "stale": "yellow", "new": "dim"}
# name -> the width of the terminal from which on it is shown
_COLUMNS = {
    "run": 0,
    "state": 0,
    "job": 60,
    "node": 110,
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
_OF_SLURM = ("job", "node")  # shown where a run has a job
_PIPE_WIDTH = 200
_LEAST_FOLDED = 20


def console() -> Console:
    """A console as wide as the terminal; wide and plain into a pipe."""
    plain = Console(highlight=False)
    if plain.is_terminal:
        return plain
    return Console(highlight=False, width=int(os.environ.get("COLUMNS") or _PIPE_WIDTH))


def plan_table(plan: Sequence[PlannedRun], width: int) -> Text:
    """A row a run: its state, why, and how far it is."""
    rows = [
        {
            "run": run.spec.name,
            "id": run.spec.id,
            "state": run.state,
            "iterations": iterations(run),
            "why": run.why,
        }
        for run in plan
    ]
    return _table(rows, ["run", "id", "state", "iterations", "why"], width)


def status_table(plan: Sequence[PlannedRun], width: int) -> Text:
    """A row a run: state, job, progress, the newest logged values, results, attempts, cause of failure and its log.

    On a terminal of few columns (`width`) the less important ones are left out.
    """
    rows = [cells(run) for run in plan]
    hidden = [] if any(run.job for run in plan) else _OF_SLURM
    names = [name for name, least in _COLUMNS.items() if width >= least and name not in hidden]
    return _table(rows, names, width)


def live_table(plan: Sequence[PlannedRun], width: int, height: int) -> RenderableType:
    """The status table as far as it fits a terminal of `height` lines, running runs first, under a line of counts."""
    order = {"running": 0, "failed": 1, "queued": 2, "new": 3, "stale": 4, "done": 4}
    rows = max(1, height - 4)
    shown = plan if len(plan) <= rows else sorted(plan, key=lambda run: order[run.state])[:rows]
    hidden = f" ({len(shown)} of {len(plan)} shown)" if len(shown) < len(plan) else ""
    return Group(counts(plan) + hidden, status_table(shown, width))


def counts(plan: Sequence[PlannedRun]) -> str:
    """How many runs are in which state."""
    return ", ".join(f"{number} {state}" for state, number in state_counts(plan).items() if number)


def state_counts(plan: Sequence[PlannedRun]) -> dict[str, int]:
    states = [run.state for run in plan]
    return {state: states.count(state) for state in reversed(STATES)}


def failures(plan: Sequence[PlannedRun], lines: int = 5) -> RenderableType:
    """What failed and why, with the last lines of each log."""
    parts: list[RenderableType] = []
    for run in plan:
        if run.state == "failed":
            parts.append(Text.assemble((run.spec.name, "red"), f" {run.why}"))
            log = logs.newest_log(run)
            if log is not None and log.exists():
                parts.append(Text("\n".join(f"    {line}" for line in [f"{log}:", *logs.tail(log, lines)])))
    return Group(*parts)


def progress_line(run: PlannedRun) -> str:
    """One plain line about a running run."""
    if run.spec.task == EVALUATE:
        return f"{run.spec.name}: evaluating"
    row = last_row(run.path)
    if not row:  # it has not logged yet, or measures and logs nothing
        return f"{run.spec.name}: " + (f"{run.iteration}/{run.iterations}" if run.iteration else "starting")
    return (
        f"{run.spec.name}: iteration {iterations(run)}  loss {row['loss']:.3f}  "
        f"T {row['T']:.3f}  beta {row['beta']:.3f}  {_duration(seconds_left(run, row)) or '?'} left"
    )


def iterations(run: PlannedRun) -> str:
    """How far the run is; of one that trains nothing whether its weights are evaluated."""
    if run.spec.task == EVALUATE:
        words = {"done": "evaluated", "stale": "evaluated", "running": "evaluating"}
        return words.get(run.state, "not evaluated")
    return f"{run.iteration}/{run.iterations or '?'}"


def cells(run: PlannedRun) -> dict[str, str]:
    """A run's row of the status table, as text."""
    row = last_row(run.path) if run.status else {}
    metrics = newest_metrics(run)
    return {
        "run": run.spec.name,
        "state": run.state,
        "job": run.job or "",
        "node": run.node or "",
        "iteration": iterations(run),
        "%": f"{100 * run.iteration / run.iterations:.0f}" if run.iterations else "",
        "left": _duration(seconds_left(run, row)) if run.state == "running" else "",
        **{key: f"{row[key]:.3f}" if row else "" for key in ("loss", "T", "beta")},
        **{key: f"{100 * metrics[key]:.1f}" if metrics.get(key) is not None else "" for key in ("AP", "AP90")},
        "attempts": str(len(run.attempts) or ""),
        "cause": _cause(run),
    }


def newest_metrics(run: PlannedRun) -> dict[str, Any]:
    """The run's metrics; before it is done, those that it evaluated last on the way; {} if there are none."""
    if run.metrics or not run.status or not run.spec.config["train"].get("val_interval"):
        return run.metrics
    return last_evaluation(run.path)


def seconds_left(run: PlannedRun, row: dict[str, Any]) -> float | None:
    """What a run still takes, by the newest row of its record; None where it cannot be said."""
    if not row or not run.iterations:
        return None
    return float((run.iterations - run.iteration) * row["seconds"])


def _cause(run: PlannedRun) -> str:
    """Why a run is not done; for one that failed with the path of its log."""
    log = logs.newest_log(run) if run.state == "failed" else None
    return f"{run.why}; log: {shown_path(log)}" if log is not None else run.why


def shown_path(path: Path) -> str:
    """`path`, from the working directory where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def _duration(seconds: float | None) -> str:
    """h:mm:ss or m:ss; "" for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _table(rows: Sequence[dict[str, str]], names: Sequence[str], width: int) -> Text:
    """Aligned columns under their names; what is too long for the last one goes on below itself, other rows are cut.

    Done by hand: rich's Table takes a second for a thousand rows.
    """
    widths = [max(len(name), *(len(row[name]) for row in rows)) if rows else len(name) for name in names]
    before = sum(widths[:-1]) + 2 * (len(names) - 1)
    folded = max(_LEAST_FOLDED, width - before) if names[-1] in ("cause", "why") else None
    text = Text(no_wrap=True, overflow="crop")
    text.append(_line(names, widths), style="bold")
    for row in rows:
        cells = [row[name] for name in names]
        rest: list[str] = []
        if folded and len(cells[-1]) > folded:
            cells[-1], *rest = textwrap.wrap(cells[-1], folded)
        start = len(text) + 1
        text.append("\n" + _line(cells, widths))
        if "state" in names:
            at = start + sum(widths[: names.index("state")]) + 2 * names.index("state")
            text.stylize(STATES[row["state"]], at, at + len(row["state"]))
        for more in rest:
            text.append("\n" + " " * before + more)
    return text


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

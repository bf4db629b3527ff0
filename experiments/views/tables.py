"""The launcher's tables and lines: plan, status and progress, for a terminal or a pipe."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from dynamic_rcnn.run.spec import EVALUATE
from dynamic_rcnn.run.train_log import LATER_STAGES, TIMING, stage_column
from experiments.planning.last_rows import last_evaluations, last_row
from experiments.planning.run_state import HELD, PlannedRun
from experiments.views import logs

# state -> its color
STATES = {"done": "green", "running": "cyan", "queued": "blue", "failed": "red", "stale": "yellow", "new": "dim"}
_LIVE_ORDER = ("running", "failed", "queued", "new", "stale", "done")  # order of the rows of a live table, from the top
# column -> the smallest terminal width that shows it
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
    "img/s": 130,
    "wait%": 136,
    "GB": 142,
    "attempts": 120,
    "cause": 105,
}
_JOB_COLUMNS = ("job", "node")  # shown if any run has a job
_PIPE_WIDTH = 200
_MIN_WRAP_WIDTH = 20
_LOG_LINES = 5  # number of lines of a failed run's log


def console() -> Console:
    """A console as wide as the terminal. Output to a pipe is wide and has no colors."""
    terminal = Console(highlight=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, width=int(os.environ.get("COLUMNS") or _PIPE_WIDTH))


def plan_table(plan: Sequence[PlannedRun], width: int) -> Text:
    """One row per run: its state, its progress, and why it is in this state."""
    rows = [
        {"run": run.spec.name, "id": run.spec.id, "state": run.state, "iterations": iterations(run), "why": run.why}
        for run in plan
    ]
    return _table(rows, ["run", "id", "state", "iterations", "why"], width)


def status_table(plan: Sequence[PlannedRun], width: int) -> Text:
    """One row per run: state, job, progress, newest values, results, attempts, cause of failure and its log.

    A narrow terminal (`width`) shows only the important columns.
    """
    hidden = [] if any(run.job for run in plan) else _JOB_COLUMNS
    names = [name for name, least in _COLUMNS.items() if width >= least and name not in hidden]
    return _table([status_row(run) for run in plan], names, width)


def hidden_causes(plan: Sequence[PlannedRun], width: int) -> list[str]:
    """Lines on why runs failed or are held, for a terminal that is too narrow for the column of causes."""
    if width >= _COLUMNS["cause"]:
        return []
    failed = [run for run in plan if run.state == "failed"]
    resumable = any(not run.corrupt for run in failed)
    hint = ["action=logs shows the ends of their logs; launching again resumes them"] if resumable else []
    return [
        *(run.line for run in failed),
        *hint,
        *(run.line for run in plan if run.state == "queued" and HELD in run.why),
    ]


def live_table(plan: Sequence[PlannedRun], width: int, height: int) -> RenderableType:
    """The counts and as much of the status table as fits on a terminal of `height` lines, running runs first."""
    shown, rows = plan, max(1, height - 4)
    if len(plan) > rows:
        shown = sorted(plan, key=lambda run: _LIVE_ORDER.index(run.state))[:rows]
    hidden = f" ({len(shown)} of {len(plan)} shown)" if len(shown) < len(plan) else ""
    return Group(counts(plan) + hidden, status_table(shown, width))


def counts(plan: Sequence[PlannedRun]) -> str:
    """How many runs are in which state, in words."""
    return ", ".join(f"{number} {state}" for state, number in state_counts(plan).items() if number)


def state_counts(plan: Sequence[PlannedRun]) -> dict[str, int]:
    """How many runs are in each state."""
    states = [run.state for run in plan]
    return {state: states.count(state) for state in reversed(STATES)}


def failures(plan: Sequence[PlannedRun]) -> RenderableType:
    """What failed and why, with the last lines of each log."""
    parts: list[RenderableType] = []
    for run in plan:
        if run.state == "failed":
            parts.append(Text.assemble((run.spec.name, "red"), f" {run.why}"))
            log = logs.newest_log(run)
            if log is not None and log.exists():
                parts.append(Text("\n".join(f"    {line}" for line in [f"{log}:", *logs.tail(log, _LOG_LINES)])))
    return Group(*parts)


def progress_line(run: PlannedRun) -> str:
    """One line about a running run."""
    row = last_row(run.path)
    if run.spec.task == EVALUATE:
        text = "evaluating"
    elif row:
        text = f"iteration {iterations(run)}  loss {row['loss']:.3f}  T {row['T']:.3f}  beta {row['beta']:.3f}"
        text += f"  {_duration(seconds_left(run, row)) or '?'} left"
    else:  # a run that has not logged yet, or a timing run, which logs nothing
        text = iterations(run) if run.iteration else "starting"
    return f"{run.spec.name}: {text}"


def iterations(run: PlannedRun) -> str:
    """The run's progress; for an evaluation of weights, whether it is done."""
    if run.spec.task == EVALUATE:
        return {"done": "evaluated", "stale": "evaluated", "running": "evaluating"}.get(run.state, "not evaluated")
    return f"{run.iteration}/{run.iterations or '?'}"


def newest_metrics(run: PlannedRun) -> dict[str, Any]:
    """The run's metrics; of a run that is not done, those of its last evaluation; {} without any."""
    if run.metrics or not run.status or not run.spec.config["train"].get("val_interval"):
        return run.metrics
    evaluations = last_evaluations(run.path)
    return evaluations[-1] if evaluations else {}


def seconds_left(run: PlannedRun, row: dict[str, Any]) -> float | None:
    """The time left, estimated from the newest row of the training log; None if not known."""
    if not row or not run.iterations:
        return None
    return float((run.iterations - run.iteration) * row["seconds"])


def status_row(run: PlannedRun) -> dict[str, str]:
    """What the status shows of a run, by column."""
    row = last_row(run.path) if run.status else {}
    metrics = newest_metrics(run)
    log = logs.newest_log(run) if run.state == "failed" else None
    return {
        "run": run.spec.name,
        "state": run.state,
        "job": run.job or "",
        "node": run.node or "",
        "iteration": iterations(run),
        "%": f"{100 * run.iteration / run.iterations:.0f}" if run.iterations else "",
        "left": _duration(seconds_left(run, row)) if run.state == "running" else "",
        "loss": f"{row['loss']:.3f}" if row else "",
        **{key: _by_stage(row, key) for key in ("T", "beta")},
        **{key: f"{100 * metrics[key]:.1f}" if metrics.get(key) is not None else "" for key in ("AP", "AP90")},
        **_pace(row),
        "attempts": str(len(run.attempts) or ""),
        "cause": run.why if log is None else f"{run.why}; log: {min(str(log), os.path.relpath(log), key=len)}",
    }


def _pace(row: dict[str, Any]) -> dict[str, str]:
    """Images per second, the share of the time in which the run waited for them, and its peak memory."""
    if not _is_measured(row):
        return {"img/s": "", "wait%": "", "GB": ""}
    return {
        "img/s": f"{row['images_per_second']:.1f}",
        "wait%": f"{100 * row['data_seconds'] / max(row['seconds'], 1e-9):.0f}",
        "GB": f"{row['peak_bytes'] / 1e9:.1f}",
    }


def _is_measured(row: dict[str, Any]) -> bool:
    """Whether a row of train.jsonl has all columns of TIMING, which those of earlier versions lack."""
    return all(isinstance(row.get(name), int | float) for name in TIMING)


def _by_stage(row: dict[str, Any], name: str) -> str:
    """T or beta; of a Cascade head, those of all stages."""
    columns = (stage_column(name, stage) for stage in (1, *LATER_STAGES))
    return " / ".join(f"{row[column]:.3f}" for column in columns if column in row)


def _duration(seconds: float | None) -> str:
    """h:mm:ss or m:ss; "" for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _table(rows: Sequence[dict[str, str]], names: Sequence[str], width: int) -> Text:
    """Aligned columns. A last column of sentences is wrapped, everything else is cut at the terminal's edge.

    rich's own Table takes a second for a thousand rows.
    """
    widths = [max([len(name), *(len(row[name]) for row in rows)]) for name in names]
    indent = sum(widths[:-1]) + 2 * (len(names) - 1)
    wrap = max(_MIN_WRAP_WIDTH, width - indent) if names[-1] in ("cause", "why") else None
    state = sum(widths[: names.index("state")]) + 2 * names.index("state")
    text = Text(no_wrap=True, overflow="crop")
    text.append(_join(names, widths), style="bold")
    for row in rows:
        cells, rest = [row[name] for name in names], list[str]()
        if wrap and len(cells[-1]) > wrap:
            cells[-1], *rest = textwrap.wrap(cells[-1], wrap)
        start = len(text) + 1 + state
        text.append("\n" + _join(cells, widths))
        text.stylize(STATES[row["state"]], start, start + len(row["state"]))
        for line in rest:
            text.append("\n" + " " * indent + line)
    return text


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

"""The launcher's tables: plan and status, for a terminal or a pipe."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from dynamic_rcnn.run.directory import STATUS, TRAIN_LOG, read_json
from experiments.plan import PlannedRun, last_metrics
from experiments.settings import terminal_width

_STYLES = {"done": "green", "running": "cyan", "failed": "red", "stale": "yellow", "new": "dim"}
_TAIL_BYTES = 4096


def console() -> Console:
    """A console as wide as the terminal; wide and plain into a pipe."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=max(160, terminal_width()))


def plan_table(plan: list[PlannedRun]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "id", "state", "iterations", "why"):
        table.add_column(column, overflow="fold")
    for run in plan:
        iterations = f"{run.iteration}/{run.iterations or '?'}"
        table.add_row(run.spec.name, run.spec.id, _styled(run.state), iterations, run.why)
    return table


def status_table(plan: list[PlannedRun]) -> Table:
    """A row a run: state, progress, the newest logged values, results, attempts and cause of failure."""
    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "iteration", "%", "left", "loss", "T", "beta", "AP", "AP90", "attempts", "cause"):
        table.add_column(column, overflow="fold")
    for run in plan:
        row, metrics = _last_row(run), last_metrics(run.path)
        percent = f"{100 * run.iteration / run.iterations:.0f}" if run.iterations else ""
        left = _duration((run.iterations - run.iteration) * row["seconds"]) if row and run.iterations else ""
        values = [f"{row[key]:.3f}" if row else "" for key in ("loss", "T", "beta")]
        results = [f"{100 * metrics[key]:.1f}" if metrics.get(key) is not None else "" for key in ("AP", "AP90")]
        table.add_row(
            run.spec.name,
            _styled(run.state),
            f"{run.iteration}/{run.iterations or '?'}",
            percent,
            left if run.state == "running" else "",
            *values,
            *results,
            str(_attempts(run) or ""),
            run.why if run.state in ("failed", "stale") else "",
        )
    return table


def failures(plan: list[PlannedRun], lines: int = 5) -> RenderableType:
    """What failed and why, with the last lines of each log."""
    parts: list[RenderableType] = []
    for run in plan:
        if run.state == "failed":
            parts.append(f"[red]{run.spec.name}[/red] {run.why}")
            log = newest_log(run)
            if log is not None:
                tail = log.read_text(errors="replace").splitlines()[-lines:]
                parts.append("\n".join(f"    {line}" for line in [f"{log}:", *tail]).replace("[", r"\["))
    return Group(*parts)


def newest_log(run: PlannedRun) -> Any:
    logs = sorted((run.path / "logs").glob("attempt*.log"), key=lambda path: int(path.stem[7:]))
    return logs[-1] if logs else None


def progress_line(run: PlannedRun) -> str:
    """One plain line about a running run."""
    row = _last_row(run)
    if not row:
        return f"{run.spec.name}: starting"
    left = _duration((run.iterations - run.iteration) * row["seconds"]) if run.iterations else "?"
    return (
        f"{run.spec.name}: iteration {run.iteration}/{run.iterations or '?'}  loss {row['loss']:.3f}  "
        f"T {row['T']:.3f}  beta {row['beta']:.3f}  {left} left"
    )


def _styled(state: str) -> str:
    return f"[{_STYLES[state]}]{state}[/{_STYLES[state]}]"


def _attempts(run: PlannedRun) -> int:
    try:
        return len(read_json(run.path / STATUS)["attempts"])
    except (ValueError, KeyError):
        return 0


def _last_row(run: PlannedRun) -> dict[str, Any]:
    """The newest whole line of train.jsonl, without reading all of it."""
    try:
        with (run.path / TRAIN_LOG).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
        return dict(json.loads(lines[-1])) if lines else {}
    except (OSError, ValueError):
        return {}


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"

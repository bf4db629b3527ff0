"""The list of runs that action=status watch=true shows: a summary of each arm and, below it, its runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from dynamic_rcnn.run.spec import EVALUATE
from dynamic_rcnn.wording import plural
from experiments.planning.last_rows import last_evaluations
from experiments.planning.run_state import PlannedRun
from experiments.views import tables

# column -> its smallest width; the last one takes what is left
_COLUMNS = {
    **{"run": 5, "state": 7, "progress": 13, "iteration": 9, "left": 7, "loss": 5, "T": 5, "beta": 5, "AP": 6},
    **{"AP90": 4, "img/s": 5, "wait%": 5, "GB": 4, "attempts": 8, "job": 6, "node": 6, "why": 24},
}
# columns that a terminal that is too narrow for all leaves out, the first one first
LESS_IMPORTANT = (
    *("GB", "attempts", "node", "job", "loss", "AP90", "iteration", "why"),
    *("wait%", "img/s", "beta", "T", "AP", "left", "progress"),
)
_ON_THE_LEFT = ("run", "state", "progress", "job", "node", "why")
_BAR = 8  # characters


def sort_by_arm(plan: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs in the order of the list: those of an arm together."""
    places = {arm: place for place, arm in enumerate(dict.fromkeys(run.spec.arm for run in plan))}
    return sorted(plan, key=lambda run: places[run.spec.arm])


def list_items(runs: Sequence[PlannedRun]) -> list[str | PlannedRun]:
    """What is on each line of the list: the summary of an arm or a run."""
    items: list[str | PlannedRun] = []
    for arm, group in groupby(runs, key=lambda run: run.spec.arm):
        own = list(group)
        items += [summary(arm, own), *own]
    return items


def summary(arm: str, runs: Sequence[PlannedRun]) -> str:
    """An arm's finished seeds and the mean and range of their AP, in points."""
    done = [run for run in runs if run.state == "done"]
    parts = [f"{len(done)} of {plural('seed', len(runs))} done"]
    if len(done) < len(runs):
        parts.append(tables.counts([run for run in runs if run.state != "done"]))
    found = [100 * ap for run in done if (ap := run.metrics.get("AP")) is not None]
    if found:
        spread = f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else ""
        parts.append(f"{'mean ' if spread else ''}AP {statistics.mean(found):.1f}{spread}")
    return f"{arm}: {', '.join(parts)}"


def draw_list(items: Sequence[str | PlannedRun], selected: PlannedRun, width: int) -> list[Text]:
    """The head of the table, and a line for each of these items."""
    rows = [_cells(item) if isinstance(item, PlannedRun) else {} for item in items]
    widths = {
        name: max([least, len(name), *(len(row[name]) for row in rows if row and name != "why")])
        for name, least in _COLUMNS.items()
    }
    names = _choose_columns(widths, width - 2, any(row and row["job"] for row in rows))
    lines = [Text("  " + _join({name: name for name in names}, widths), style="bold")]
    for item, row in zip(items, rows, strict=True):
        if not isinstance(item, PlannedRun):
            lines.append(Text(item, style="bold"))
            continue
        line = Text(("> " if item is selected else "  ") + _join({name: row[name] for name in names}, widths))
        start = 2 + widths["run"] + 2
        line.stylize(tables.STATES[item.state], start, start + len(item.state))
        start = line.plain.find("━")
        line.stylize(tables.STATES[item.state], start, start + line.plain.count("━"))
        if item is selected:
            line.stylize("reverse")
        lines.append(line)
    return lines


def _choose_columns(widths: dict[str, int], width: int, jobs: bool) -> list[str]:
    """The columns that fit into `width` characters."""
    names = [name for name in widths if jobs or name not in ("job", "node")]
    for name in LESS_IMPORTANT:
        if sum(widths[each] + 2 for each in names) - 2 <= width:
            break
        if name in names:
            names.remove(name)
    return names


def _join(cells: dict[str, str], widths: dict[str, int]) -> str:
    aligned = (
        text.ljust(widths[name]) if name in _ON_THE_LEFT else text.rjust(widths[name]) for name, text in cells.items()
    )
    return "  ".join(aligned).rstrip()


def _cells(run: PlannedRun) -> dict[str, str]:
    cells = tables.status_row(run)
    trend = _trend(run) or " "
    return {
        **cells,
        "run": f"seed{run.spec.seed}",
        "progress": _progress(run),
        "AP": f"{cells['AP']} {trend}" if cells["AP"] else "",
        "why": run.why,
    }


def _progress(run: PlannedRun) -> str:
    """A bar and the percentage; of an evaluation, whether it is done."""
    if run.spec.task == EVALUATE or not run.iterations:
        return tables.iterations(run)
    share = min(1.0, run.iteration / run.iterations)
    filled = int(_BAR * share)
    return f"{'━' * filled}{'─' * (_BAR - filled)} {100 * share:3.0f}%"


def _trend(run: PlannedRun) -> str:
    """An arrow from the AP of the evaluation before to the newest one, as they are shown; "" unless there are two."""
    if not run.spec.config.get("train", {}).get("val_interval"):
        return ""
    found = [row["AP"] for row in last_evaluations(run.path)] + [run.metrics.get("AP")]
    shown = [round(100 * ap, 1) for ap in found if ap is not None][-2:]
    if len(shown) < 2:
        return ""
    before, newest = shown
    return "=" if newest == before else "↑" if newest > before else "↓"

"""The report's account of every run directory that was started, and the facts that it shows behind its numbers."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

import pandas as pd

from analysis.reading.run import MISSING, UNREADABLE
from analysis.reading.run_table import RunTable
from analysis.reading.superseded import SupersededRun
from analysis.rendering.model import Block, Row, Section, TableCell, table
from analysis.rendering.text import emphasis

NOT_KNOWN = "not known"
FACTS = ("id", "arm", "seed", "state", "attempts", "commit", "dirty", "device", "torch", "command")
STATES = ("done", "failed", "running", UNREADABLE)


def section(records: RunTable) -> Section:
    """The section with its table."""
    text = (
        "Run directories by data set; the columns from done to replaced add up to started. "
        + emphasis("Replaced")
        + ": moved aside, because different code had made it (stale) or because it was given up and replaced by a copy "
        "(lost). "
        + emphasis("Resumed")
        + ": done after more than one attempt. "
        + emphasis("In no table")
        + ": not replaced, and not part of any grid in these records."
    )
    return Section("accounting", "Every run that was started", [text, _table(records)])


def _table(records: RunTable) -> Block:
    """One row per data set."""
    started = _started(records)
    replaced = None if records.superseded is None else [each for each in records.superseded if each.is_replaced]
    header = ["data set", "started", *STATES, "replaced", "resumed", "in no table"]
    rows: list[Row] = []
    for name in sorted({*started["dataset"], *(each.path.split("/")[0] for each in replaced or [])}):
        moved = None if replaced is None else [each for each in replaced if each.path.split("/")[0] == name]
        rows.append([name, *_cells(started[started["dataset"] == name], moved)])
    return table(header, rows) if rows else "No run was started."


def _cells(started: pd.DataFrame, replaced: list[SupersededRun] | None) -> list[TableCell | str]:
    states = [_count_cell(started[started["state"] == state]) for state in STATES]
    resumed = _count_cell(started[(started["state"] == "done") & (started["attempts"] > 1)])
    if replaced is None:
        return [NOT_KNOWN, *states, NOT_KNOWN, resumed, NOT_KNOWN]
    reasons = sorted(Counter(each.reason for each in replaced).items())
    listed = f" ({', '.join(f'{count} {reason}' for reason, count in reasons)})" if reasons else ""
    total = str(len(started) + len(replaced))
    return [total, *states, f"{len(replaced)}{listed}", resumed, _count_cell(started[started["in_no_grid"]])]


def _count_cell(started: pd.DataFrame) -> TableCell:
    """The number of rows, and the runs among them that are in the folder."""
    return TableCell(str(len(started)), started.loc[~started["listed"], "path"].tolist())


def _started(records: RunTable) -> pd.DataFrame:
    """One row per directory that was not moved aside.

    Columns: path, state, attempts, listed (only in aside.json), dataset, in_no_grid.
    """
    columns = ["path", "state", "attempts"]
    runs = records.runs.loc[records.runs["state"] != MISSING, columns]
    listed = [(each.path, each.state, each.attempts) for each in records.superseded or [] if not each.is_replaced]
    started = pd.DataFrame([*runs.itertuples(index=False), *listed], columns=columns).astype({"attempts": "float64"})
    started["listed"] = [False] * len(runs) + [True] * len(listed)
    started["dataset"] = [str(path).split("/")[0] for path in started["path"]]
    started["in_no_grid"] = started["path"].isin([*records.runs_in_no_grid(), *(path for path, _, _ in listed)])
    return started


def run_facts(records: RunTable) -> dict[str, dict[str, Any]]:
    """Path -> the known FACTS of each run; `command` repeats this run and those that it needs."""
    trained = {cell.path for grid in records.grids if grid.trains for cell in grid.cells}
    known_runs = records.runs.dropna(subset=["id", "arm"])
    others = {name: (arm, int(seed)) for name, arm, seed in known_runs[["id", "arm", "seed"]].itertuples(index=False)}
    facts = {}
    for row in records.runs[["path", "replay", *FACTS]].to_dict("records"):
        known = {name: row[name] for name in FACTS if pd.notna(row[name])}
        known = {name: int(value) if isinstance(value, float) else value for name, value in known.items()}
        if row["path"] in trained and known.keys() >= {"arm", "seed", "command"}:
            cells = [(known["arm"], known["seed"]), *([others[row["replay"]]] if row["replay"] in others else [])]
            known["command"] = repeat_command(known["command"], cells)
        facts[str(row["path"])] = known
    return facts


def repeat_command(launch: str, cells: list[tuple[str, int]]) -> str:
    """The command that launched a run among others, limited to these arms and seeds; other commands unchanged."""
    try:
        words = shlex.split(launch)
    except ValueError:  # not written by the launcher
        return launch
    if not any(word.startswith("grid=") for word in words):
        return launch
    kept = [word for word in words if not word.startswith(("arms=", "seeds="))]
    arms, seeds = (list(dict.fromkeys(each)) for each in zip(*cells, strict=True))
    if len(seeds) > 1:  # a run that replays the seed before; so does that seed's
        seeds = list(range(max(seeds) + 1))
    return shlex.join([*kept, f"arms=[{','.join(arms)}]", f"seeds=[{','.join(map(str, seeds))}]"])

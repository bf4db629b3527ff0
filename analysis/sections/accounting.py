"""The report's account of every run directory that was started, whether it is in a table or not."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from analysis.reading.run import MISSING, UNREADABLE
from analysis.reading.run_table import RunTable
from analysis.reading.superseded import SupersededRun
from analysis.rendering.model import Block, Row, Section, TableCell, table
from analysis.rendering.text import emphasis

NOT_KNOWN = "not known"
STATES = ("done", "failed", "running", UNREADABLE)


def section(records: RunTable) -> Section:
    """The section with its table."""
    text = (
        "Run directories by data set; the columns from done to replaced add up to started. "
        + emphasis("Replaced")
        + ": moved aside, because other code had made it (stale) or because it was given up and a copy took its place "
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
    for name in sorted({*started["dataset"], *map(_dataset, replaced or [])}):
        moved = None if replaced is None else [each for each in replaced if _dataset(each) == name]
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
    return [total, *states, f"{len(replaced)}{listed}", resumed, _count_cell(started[started["unasked"]])]


def _count_cell(started: pd.DataFrame) -> TableCell:
    """The number of rows, and the runs among them that are in the folder."""
    return TableCell(str(len(started)), started.loc[~started["listed"], "path"].tolist())


def _started(records: RunTable) -> pd.DataFrame:
    """One row per directory that was not moved aside.

    Columns: path, state, attempts, listed (only in aside.json), dataset, unasked (in no grid).
    """
    columns = ["path", "state", "attempts"]
    runs = records.runs.loc[records.runs["state"] != MISSING, columns]
    listed = [(each.path, each.state, each.attempts) for each in records.superseded or [] if not each.is_replaced]
    started = pd.DataFrame([*runs.itertuples(index=False), *listed], columns=columns).astype({"attempts": "float64"})
    started["listed"] = [False] * len(runs) + [True] * len(listed)
    started["dataset"] = [str(path).split("/")[0] for path in started["path"]]
    started["unasked"] = started["path"].isin([*records.runs_in_no_grid(), *(path for path, _, _ in listed)])
    return started


def _dataset(each: SupersededRun) -> str:
    return each.path.split("/")[0]

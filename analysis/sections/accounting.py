"""Every run directory that was started, whether a table has it or not: for the report to account for."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from analysis.reading.reader import MISSING, UNREADABLE
from analysis.reading.records import Records
from analysis.reading.superseded import Aside
from analysis.rendering.markup import escape
from analysis.rendering.model import Block, Cell, table

NOT_KNOWN = "not known"
STATES = ("done", "failed", "running", UNREADABLE)


def section(records: Records) -> list[Block]:
    """The blocks of the report's section: its heading, what the columns mean, and the table."""
    return [
        "## Every run that was started",
        "Run directories by data set. Replaced ones were moved aside: done by other code (stale), or given up for lost "
        "while a copy went on (lost). Resumed ones are those of the done that took more than one attempt. Those in no "
        "table, besides the replaced ones, are of no grid in these records.",
        accounting(records),
    ]


def accounting(records: Records) -> Block:
    """A row a data set. A directory is in one of the columns from done to replaced, which add up to started."""
    started = _started(records)
    replaced = None if records.aside is None else [each for each in records.aside if each.is_replaced]
    datasets = sorted({*started["dataset"], *(_dataset(each) for each in replaced or [])})
    header = ["data set", "started", *STATES, "replaced", "resumed", "in no table"]
    rows = []
    for name in datasets:
        own = started[started["dataset"] == name]
        moved = None if replaced is None else [each for each in replaced if _dataset(each) == name]
        rows.append([escape(name), *_cells(own, moved)])
    return table(header, rows) if rows else "No run was started."


def _cells(started: pd.DataFrame, replaced: list[Aside] | None) -> list[Cell | str]:
    states = [_counted(started[started["state"] == state]) for state in STATES]
    resumed = _counted(started[(started["state"] == "done") & (started["attempts"] > 1)])
    if replaced is None:
        return [NOT_KNOWN, *states, NOT_KNOWN, resumed, NOT_KNOWN]
    reasons = sorted(Counter(each.reason for each in replaced).items())
    listed = f" ({', '.join(f'{count} {escape(reason)}' for reason, count in reasons)})" if reasons else ""
    return [
        str(len(started) + len(replaced)),
        *states,
        f"{len(replaced)}{listed}",
        resumed,
        _counted(started[started["unasked"]]),
    ]


def _counted(started: pd.DataFrame) -> Cell:
    """How many there are, with those that are here."""
    return Cell(str(len(started)), runs=started.loc[~started["listed"], "path"].tolist())


def _started(records: Records) -> pd.DataFrame:
    """path, state, attempts, listed (in aside.json alone), dataset and unasked (no grid asks for it).

    A row a directory that was not moved aside.
    """
    columns = ["path", "state", "attempts"]
    runs = records.runs.loc[records.runs["state"] != MISSING, columns]
    listed = [(each.path, each.state, each.attempts) for each in records.aside or [] if not each.is_replaced]
    found = pd.DataFrame([*runs.itertuples(index=False), *listed], columns=columns).astype({"attempts": "float64"})
    found["listed"] = [False] * len(runs) + [True] * len(listed)
    found["dataset"] = [str(path).split("/")[0] for path in found["path"]]
    found["unasked"] = found["path"].isin([*records.unasked(), *(path for path, _, _ in listed)])
    return found


def _dataset(each: Aside) -> str:
    return each.path.split("/")[0]

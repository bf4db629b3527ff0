"""The tables of a grid's section about its arms, in percent, and about its runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.reading.run import MISSING
from analysis.reading.run_table import RunTable
from analysis.rendering.model import Content, Number, Row, Table, TableCell, table
from analysis.rendering.text import BREAK, NOTHING, Line, code
from analysis.stats.comparison import PRIMARY, Comparison, describe_state
from analysis.stats.image_noise import Metric
from dynamic_rcnn.run.manifest import Manifest

SHORT_COMMIT = 8
SAME_RUNS = "same runs"

RunColumns = Mapping[str, Callable[[dict[Any, Any]], TableCell | Content]]  # title -> content, from a row of runs


def mean_table(
    comparison: Comparison, metrics: Sequence[Metric], facts: Sequence[str] = (), hidden: Collection[str] = ()
) -> Table:
    """One row per arm: its title, the facts ("runs": the states of its runs, "n") and its mean in each metric.

    Shows sd and interval of the mean unless `hidden`, and n if fewer runs have this metric than have AP.
    """
    rows: list[Row] = []
    for arm in comparison.grid.arms:
        n, runs = comparison.summary("AP", arm).n, comparison.paths(arm)
        known, cells = {"runs": state_counts(comparison, arm), "n": str(n)}, []
        for metric in metrics:
            summary, mean = comparison.summary(metric, arm), comparison.mean(metric, arm)
            low, high = mean.interval() if mean else (None, None)
            note = f" (n = {summary.n})" if 0 < summary.n < n else ""
            shown = Number(summary.mean, "mean", sd=summary.sd, low=low, high=high, hidden=hidden, note=note)
            cells.append(TableCell(shown, runs))
        rows.append([arm_title(comparison.grid, arm), *(known[fact] for fact in facts), *cells])
    return table(["arm", *facts, *titles(metrics)], rows, text_columns=1 + ("runs" in facts))


def level_and_difference_table(comparison: Comparison, metrics: Sequence[Metric]) -> Table:
    """One row per arm: its number of seeds, its mean in each metric, and AP and AP90 minus those of its baseline."""
    rows: list[Row] = []
    for arm in comparison.grid.arms:
        runs = comparison.paths(arm)
        cells: list[TableCell | Content] = [
            TableCell(Number(comparison.summary(metric, arm).mean, "mean"), runs) for metric in metrics
        ]
        for metric in PRIMARY:
            found = comparison.difference(metric, arm) if arm in comparison.others else None
            if found is None:
                cells.append(NOTHING)
                continue
            low, high = found.interval()
            shown = Number(found.value, "difference", 2, True, bool(found.is_significant), low=low, high=high)
            cells.append(TableCell(shown, [*runs, *comparison.paths(comparison.grid.baseline_of(arm))]))
        rows.append([arm_title(comparison.grid, arm), str(comparison.summary("AP", arm).n), *cells])
    return table(
        ["arm", "n", *titles(metrics), *(f"{metric} minus baseline" + BREAK + "within seeds" for metric in PRIMARY)],
        rows,
    )


def class_table(records: RunTable, comparison: Comparison) -> Table:
    """One row per class: AP and AP90 of each arm, mean over seeds."""
    finished = comparison.averaged[["arm", "path"]]
    means = finished.merge(records.classes, on="path").groupby(["name", "arm"])[["AP", "AP90"]].mean()
    columns = [(metric, arm) for metric in ("AP", "AP90") for arm in comparison.grid.arms]

    def cell(name: str, metric: str, arm: str) -> TableCell:
        value = means[metric].get((name, arm))
        percent = None if value is None or pd.isna(value) else 100 * float(value)
        return TableCell(Number(percent, "mean", 1), comparison.paths(arm))

    rows = [[name, *(cell(name, *column) for column in columns)] for name in sorted({name for name, _ in means.index})]
    return table(["class", *(f"{metric}, {arm}" for metric, arm in columns)], rows)


def run_table(runs: Iterable[dict[Any, Any]], columns: RunColumns, text_columns: int) -> Table:
    """One row per run. runs: rows of a frame of runs."""
    known = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in runs]
    return table(columns, [[content(row) for content in columns.values()] for row in known], text_columns)


def trained_run_table(records: RunTable, comparison: Comparison) -> Table:
    """One row per run: how it ended, on which hardware, and its AP and AP90. Runs that others start from come first."""
    runs = [*records.start_runs(comparison.grid).to_dict("records"), *comparison.runs.to_dict("records")]
    return run_table(runs, RUN_COLUMNS, text_columns=7)


def _whole(value: float | None) -> str:
    """A whole number from a column with gaps, where it is a float."""
    return NOTHING if value is None else str(int(value))


def _commit(row: dict[Any, Any]) -> Line:
    """A short commit, and whether there were uncommitted changes."""
    return code(row["commit"][:SHORT_COMMIT]) + (" dirty" if row["dirty"] else "") if row["commit"] else NOTHING


def _state(row: dict[Any, Any]) -> str:
    text = describe_state(row["state"], row["cause"])
    if row["state"] in ("failed", "running") and row["max_iterations"]:
        text += f" at iteration {int(row['iteration'])} of {int(row['max_iterations'])}"
    return text


def _percent_cell(row: dict[Any, Any], metric: str) -> TableCell:
    return TableCell(Number(None if row[metric] is None else 100 * row[metric]), [row["path"]])


RUN_COLUMNS: RunColumns = {
    "arm": lambda row: row["arm"],
    "seed": lambda row: _whole(row["seed"]),
    "id": lambda row: TableCell(code(row["id"] or row["path"].rsplit("-", 1)[-1]), [row["path"]]),
    "state": _state,
    "attempts": lambda row: _whole(row["attempts"]),
    "commit": _commit,
    "device": lambda row: row["device"] or NOTHING,
    "s / iteration": lambda row: TableCell(Number(row["seconds"], digits=3), [row["path"]]),
    "AP": lambda row: _percent_cell(row, "AP"),
    "AP90": lambda row: _percent_cell(row, "AP90"),
}


def state_counts(comparison: Comparison, arm: str) -> str:
    """'2 done, 1 failed (NaN)'."""
    counts = comparison.states(arm) or [(MISSING, 0)]
    return ", ".join(f"{count} {state}" for state, count in counts)


def arm_title(grid: Manifest, arm: str) -> str:
    """The name and the title of an arm."""
    return f"{arm}: {grid.arms[arm]}"


def titles(metrics: Iterable[Metric]) -> list[str]:
    """The headers of columns of these metrics."""
    return [metric if isinstance(metric, str) else f"{metric:.2f}" for metric in metrics]


def whose_baseline(grid: Manifest) -> str:
    return "each arm's own baseline" if grid.baselines else "the baseline"

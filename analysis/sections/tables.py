"""The tables of a grid's section: means over seeds by arm, and one row per run. AP in percent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from analysis.reading.run import MISSING
from analysis.reading.run_table import RunTable
from analysis.rendering.model import Number, Row, Table, TableCell, table
from analysis.rendering.text import NOTHING, Line, code
from analysis.stats.comparison import Comparison, Metric, describe_state
from dynamic_rcnn.metrics.names import AP_METRICS, IOU_THRESHOLDS, MASK_METRICS, RECALL_METRICS, SIZE_METRICS
from dynamic_rcnn.run.manifest import Manifest

SHORT_COMMIT = 8


def ablation_table(comparison: Comparison) -> Table:
    """One row per arm: the states of its runs, n, and AP at the IoU thresholds of the paper's Table 2 and 0.75."""

    def row(arm: str) -> Row:
        means = [mean_cell(comparison, metric, arm) for metric in AP_METRICS]
        return [state_counts(comparison, arm), _count(comparison, arm), *means]

    return _arm_table(comparison, ["arm", "runs", "n", *AP_METRICS], row, text_columns=2)


def threshold_table(comparison: Comparison) -> Table:
    """One row per arm: mean AP at each IoU threshold, with its interval."""

    def row(arm: str) -> Row:
        return [mean_cell(comparison, iou, arm, hidden=["sd"]) for iou in IOU_THRESHOLDS]

    return _arm_table(comparison, ["arm", *(f"{iou:.2f}" for iou in IOU_THRESHOLDS)], row)


def size_table(comparison: Comparison) -> Table:
    """One row per arm: AP by object size, and recall by detections per image and by object size."""
    return _mean_table(comparison, (*SIZE_METRICS, *RECALL_METRICS))


def mask_table(comparison: Comparison) -> Table:
    """One row per arm: AP of its masks."""
    return _mean_table(comparison, MASK_METRICS)


def _mean_table(comparison: Comparison, metrics: Sequence[str]) -> Table:
    def row(arm: str) -> Row:
        means = [mean_cell(comparison, metric, arm, hidden=["interval"]) for metric in metrics]
        return [_count(comparison, arm), *means]

    return _arm_table(comparison, ["arm", "n", *metrics], row)


def _arm_table(
    comparison: Comparison, header: Sequence[str], row: Callable[[str], Row], text_columns: int = 1
) -> Table:
    """One row per arm: its title, then `row` of it."""
    grid = comparison.grid
    return table(header, [[arm_title(grid, arm), *row(arm)] for arm in grid.arms], text_columns)


def mean_cell(comparison: Comparison, metric: Metric, arm: str, hidden: Collection[str] = ()) -> TableCell:
    """Mean ± sd over seeds with the interval of the mean, and n if fewer runs have this metric than have AP."""
    summary = comparison.summary(metric, arm)
    low, high = comparison.interval(metric, arm)
    note = f" (n = {summary.n})" if 0 < summary.n < comparison.summary("AP", arm).n else ""
    shown = Number(summary.mean, "mean", sd=summary.sd, low=low, high=high, hidden=hidden, note=note)
    return TableCell(shown, comparison.paths(arm))


def _count(comparison: Comparison, arm: str) -> str:
    return str(comparison.summary("AP", arm).n)


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


def run_table(records: RunTable, comparison: Comparison) -> Table:
    """One row per run, those that the others start from first: how it ended, on what, and its AP and AP90."""
    starts = records.start_runs(comparison.grid)
    rows = [*starts.to_dict("records"), *comparison.runs.to_dict("records")]
    header = ["arm", "seed", "id", "state", "attempts", "commit", "device", "s / iteration", "AP", "AP90"]
    return table(header, [_run_row(known_values(row)) for row in rows], text_columns=7)


def known_values(row: dict[Any, Any]) -> dict[Any, Any]:
    """A row of a frame with None for what is not known."""
    return {key: None if pd.isna(value) else value for key, value in row.items()}


def _run_row(row: dict[Any, Any]) -> Row:
    percents = [None if row[metric] is None else 100 * row[metric] for metric in ("AP", "AP90")]
    numbers = [Number(row["seconds"], digits=3), *map(Number, percents)]
    return [
        row["arm"],
        whole(row["seed"]),
        TableCell(code(row["id"] or row["path"].rsplit("-", 1)[-1]), [row["path"]]),
        _run_state(row),
        whole(row["attempts"]),
        commit_text(row["commit"], row["dirty"]),
        row["device"] or NOTHING,
        *(TableCell(each, [row["path"]]) for each in numbers),
    ]


def whole(value: float | None) -> str:
    """A whole number from a column with gaps, where it is a float."""
    return NOTHING if value is None else str(int(value))


def commit_text(commit: str | None, dirty: bool | None) -> Line:
    """A short commit, and whether there were uncommitted changes."""
    return code(commit[:SHORT_COMMIT]) + (" dirty" if dirty else "") if commit else NOTHING


def _run_state(row: dict[Any, Any]) -> str:
    text = describe_state(row["state"], row["cause"])
    if row["state"] in ("failed", "running") and row["max_iterations"]:
        text += f" at iteration {int(row['iteration'])} of {int(row['max_iterations'])}"
    return text


def state_counts(comparison: Comparison, arm: str) -> str:
    """'2 done, 1 failed (NaN)'."""
    counts = comparison.states(arm) or [(MISSING, 0)]
    return ", ".join(f"{count} {state}" for state, count in counts)


def arm_title(grid: Manifest, arm: str) -> str:
    """The name and the title of an arm."""
    return f"{arm}: {grid.arms[arm]}"

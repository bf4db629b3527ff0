"""The tables of a grid's section in the report. AP in percent, mean ± sd over seeds (ddof 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.reading.manifest import Grid, Paper
from analysis.reading.reader import MISSING
from analysis.reading.records import Records
from analysis.rendering.markup import NOTHING, code, escape, mean_sd, number, signed, span
from analysis.rendering.model import Cell, Row, Table, numbers, table
from analysis.stats.comparison import Comparison, Metric, describe_state
from dynamic_rcnn.metrics.names import AP_METRICS, IOU_THRESHOLDS, MASK_METRICS, RECALL_METRICS, SIZE_METRICS

SHORT_COMMIT = 8


def ablation_table(comparison: Comparison) -> Table:
    """A row an arm: how its runs ended, n, and AP at the thresholds of the paper's Table 2 and 0.75, with intervals."""
    rows: list[Row] = [
        [
            arm_title(comparison.grid, arm),
            state_counts(comparison, arm),
            str(comparison.summary("AP", arm).n),
            *(_with_interval(_mean_cell(comparison, metric, arm)) for metric in AP_METRICS),
        ]
        for arm in comparison.grid.arms
    ]
    return table(["arm", "runs", "n", *AP_METRICS], rows, text_columns=2)


def threshold_table(comparison: Comparison) -> Table:
    """A row an arm: mean AP at each IoU threshold, with its interval."""
    rows: list[Row] = [
        [arm_title(comparison.grid, arm), *(_threshold_cell(comparison, iou, arm) for iou in IOU_THRESHOLDS)]
        for arm in comparison.grid.arms
    ]
    return table(["arm", *(f"{iou:.2f}" for iou in IOU_THRESHOLDS)], rows)


def _threshold_cell(comparison: Comparison, iou: float, arm: str) -> Cell:
    cell = _mean_cell(comparison, iou, arm)
    return _with_interval(replace(cell, text=number(cell.numbers.get("mean"))))


def _with_interval(cell: Cell) -> Cell:
    limits = span(cell.numbers.get("low"), cell.numbers.get("high"))
    return replace(cell, text=f"{cell.text}<br>{limits}") if limits else cell


def size_table(comparison: Comparison) -> Table:
    """A row an arm: AP by object size, and recall by detections an image and by object size."""
    names = [*SIZE_METRICS, *RECALL_METRICS]
    return table(["arm", "n", *names], _metric_rows(comparison, names))


def mask_table(comparison: Comparison) -> Table:
    """A row an arm: AP of its masks."""
    return table(["arm", "n", *MASK_METRICS], _metric_rows(comparison, MASK_METRICS))


def _metric_rows(comparison: Comparison, metrics: Sequence[str]) -> list[Row]:
    """A row an arm: its title, n, and mean ± sd of each metric."""
    return [
        [
            arm_title(comparison.grid, arm),
            str(comparison.summary("AP", arm).n),
            *(_mean_cell(comparison, metric, arm) for metric in metrics),
        ]
        for arm in comparison.grid.arms
    ]


def _mean_cell(comparison: Comparison, metric: Metric, arm: str) -> Cell:
    summary = comparison.summary(metric, arm)
    text = mean_sd(summary.mean, summary.sd)
    text = f"{text} (n = {summary.n})" if 0 < summary.n < comparison.summary("AP", arm).n else text
    low, high = comparison.interval(metric, arm)
    return Cell(text, numbers(mean=summary.mean, sd=summary.sd, low=low, high=high), comparison.paths(arm))


def paper_table(paper: Paper, grid: Grid) -> Table:
    """The paper's rows, each number with its difference from the paper's own baseline."""
    known = (*AP_METRICS, *MASK_METRICS)
    metrics = [metric for metric in known if any(metric in row for row in paper.rows.values())]
    return _printed(f"{escape(paper.table)}, {escape(paper.dataset)}", paper.rows, metrics, grid)


def test_dev_table(paper: Paper, grid: Grid) -> Table:
    """As `paper_table`, of the numbers on test-dev."""
    metrics = list(dict.fromkeys(metric for row in paper.test_dev.values() for metric in row))
    return _printed(f"{escape(paper.table)}, COCO test-dev", paper.test_dev, metrics, grid)


def _printed(title: str, printed: dict[str, dict[str, float]], metrics: list[str], grid: Grid) -> Table:
    rows: list[Row] = []
    for arm in [arm for arm in grid.arms if arm in printed]:
        base = printed.get(grid.baseline_of(arm), {})
        rows.append(
            [arm_title(grid, arm), *(_paper_cell(printed[arm].get(m), base.get(m), arm, grid) for m in metrics)]
        )
    return table([title, *metrics], rows)


def _paper_cell(value: float | None, base: float | None, arm: str, grid: Grid) -> str:
    if value is None or base is None or arm in (grid.baseline, *grid.baselines.values()):
        return number(value, 1)
    return f"{number(value, 1)} ({signed(value - base, 1)})"


def class_table(records: Records, comparison: Comparison) -> Table:
    """A row a class: AP and AP90 of each arm, mean over seeds."""
    done = comparison.averaged[["arm", "path"]]
    means = done.merge(records.classes, on="path").groupby(["name", "arm"])[["AP", "AP90"]].mean()
    names = sorted({name for name, _ in means.index})
    cells = [(metric, arm) for metric in ("AP", "AP90") for arm in comparison.grid.arms]
    header = ["class", *(f"{metric}, {escape(arm)}" for metric, arm in cells)]
    rows: list[Row] = [
        [
            escape(name),
            *(_class_cell(means[metric].get((name, arm)), comparison.paths(arm)) for metric, arm in cells),
        ]
        for name in names
    ]
    return table(header, rows)


def _class_cell(value: Any, runs: list[str]) -> Cell:
    percent = None if value is None or pd.isna(value) else 100 * float(value)
    return Cell(number(percent, 1), numbers(mean=percent), runs)


def run_table(records: Records, comparison: Comparison) -> Table:
    """A row a run, the shared starting run first: how it ended, on what, and its AP and AP90."""
    starts = records.starts(comparison.grid)
    rows = [*starts.to_dict("records"), *comparison.runs.to_dict("records")]
    header = ["arm", "seed", "id", "state", "attempts", "commit", "device", "s / iteration", "AP", "AP90"]
    return table(header, [_run_row(row) for row in rows], text_columns=7)


def _run_row(row: dict[Any, Any]) -> Row:
    known: dict[Any, Any] = {key: None if pd.isna(value) else value for key, value in row.items()}
    run_id = known["id"] or known["path"].rsplit("-", 1)[-1]
    commit = commit_text(known["commit"], known["dirty"])
    measured = [(known["seconds"], 3), *((None if known[m] is None else 100 * known[m], 2) for m in ("AP", "AP90"))]
    return [
        escape(known["arm"]),
        NOTHING if known["seed"] is None else str(int(known["seed"])),
        Cell(code(run_id), runs=[known["path"]]),
        escape(_run_state(known)),
        NOTHING if known["attempts"] is None else str(int(known["attempts"])),
        commit,
        escape(known["device"]) if known["device"] else NOTHING,
        *(Cell(number(value, digits), numbers(value=value), [known["path"]]) for value, digits in measured),
    ]


def commit_text(commit: str | None, dirty: bool | None) -> str:
    """A short commit, and whether there were changes that were not committed."""
    return code(commit[:SHORT_COMMIT]) + (" dirty" if dirty else "") if commit else NOTHING


def _run_state(row: dict[Any, Any]) -> str:
    text = describe_state(row["state"], row["cause"])
    if row["state"] in ("failed", "running") and row["max_iterations"]:
        text += f" at iteration {int(row['iteration'])} of {int(row['max_iterations'])}"
    return text


def state_counts(comparison: Comparison, arm: str) -> str:
    """'2 done, 1 failed (NaN)'."""
    counts = comparison.states(arm) or [(MISSING, 0)]
    return escape(", ".join(f"{count} {state}" for state, count in counts))


def arm_title(grid: Grid, arm: str) -> str:
    """The arm's name and title, escaped."""
    return f"{escape(arm)}: {escape(grid.arms[arm])}"

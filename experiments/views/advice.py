"""action=advise: K_I and K_beta whose T and beta would follow the paper's Figure 5, from the logs of runs without them.

`iou_by_rank` and `error_by_rank` in train.jsonl hold what the statistics of an iteration would be for some K_I and
K_beta; others are interpolated. T would be the mean of such values and beta their median, bounded as in training. AP is
not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_rcnn.run.published_curves import FINAL_BETA, FINAL_T, PUBLISHED
from dynamic_rcnn.run.train_log import RANKS

BETA_BEFORE_DECAY = 0.25  # declared: beta falls further when the learning rate falls; no value is published

_FINAL_ITERATION = 90_000  # of the paper's schedule
_PARTS = 10  # a point of the table is a tenth of the logged iterations
_EPSILON = 1e-4  # a smaller error keeps beta: the boxes of objects themselves are the positives of that rank

Rows = Sequence[Mapping[str, Any]]


def points(rows: Rows, field: str) -> NDArray[np.float64]:
    """[3, ranks], values by rank of `field` at the start, after a third and at the end of a run, for RANKS.

    IoUs are averaged over a tenth of the logged iterations; of errors it is the median.
    """
    values = np.array([row[field] for row in rows if row.get(field) is not None], dtype=float)
    size = max(1, len(values) // _PARTS)
    third = (len(values) - size) // 3
    average = np.mean if field == "iou_by_rank" else np.median
    return np.stack([average(values[at : at + size], axis=0) for at in (0, third, len(values) - size)])


def at_rank(by_rank: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """[3], the three points of `points` for any rank, interpolated over the logarithm of the rank."""
    return np.array([np.interp(np.log(rank), np.log(RANKS), row) for row in by_rank])


def nearest_rank(by_rank: NDArray[np.float64], target: float, least: float = 0.0) -> int:
    """The rank whose value at the end is nearest to the target, from the first of RANKS with values above `least`."""
    above = (by_rank > least).all(axis=0)
    first = RANKS[int(above.argmax())] if above.any() else RANKS[-1]
    return min(range(first, RANKS[-1] + 1), key=lambda rank: float(abs(at_rank(by_rank, rank)[-1] - target)))


def targets(rows: Rows) -> tuple[float, float]:
    """T and beta at the end of a run with these rows, as in Figure 5.

    Both are those at the end of the figure if the learning rate has fallen. Before that, beta is BETA_BEFORE_DECAY and
    T that of the published run at the same iteration, interpolated over the logarithm of the iteration.
    """
    rates = [row["lr"] for row in rows]
    if rates[-1] < max(rates) / 2:
        return FINAL_T, FINAL_BETA
    known = {**PUBLISHED, _FINAL_ITERATION: FINAL_T}
    return float(np.interp(np.log(rows[-1]["iteration"]), np.log(list(known)), list(known.values()))), BETA_BEFORE_DECAY


def propose_iou_topk(rows: Rows) -> int:
    """K_I for the run with these rows."""
    return nearest_rank(points(rows, "iou_by_rank"), targets(rows)[0])


def propose_beta_topk(rows: Rows) -> int:
    """K_beta for the run with these rows."""
    return nearest_rank(points(rows, "error_by_rank"), targets(rows)[1], least=_EPSILON)


def table(name: str, by_rank: NDArray[np.float64], proposed: int, method: Mapping[str, Any]) -> list[str]:
    """The lines of a table for the proposed rank and those around it. name: "K_I" or "K_beta"."""
    is_iou = name == "K_I"
    shown = sorted({proposed, *sorted(RANKS, key=lambda rank: abs(np.log(rank / proposed)))[:6]})
    lines = [f"{name:>6}  {'T' if is_iou else 'beta'} at start  after 1/3  at end"]
    for rank in shown:
        values = at_rank(by_rank, rank)
        mark = "  <- proposed" if rank == proposed else ""
        if is_iou:
            values = values.clip(min=method["initial_iou"] or 0.0)  # null: the threshold of a stage
        else:
            mark += "  held: errors of 0, of the objects' own boxes" if values.min() < _EPSILON else ""
            values = np.where(values < _EPSILON, method["initial_beta"], values).clip(max=method["initial_beta"])
        lines.append(f"{rank:>6}  {values[0]:>{10 if is_iou else 13}.3f}  {values[1]:>9.3f}  {values[2]:>6.3f}{mark}")
    return lines

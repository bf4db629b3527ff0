"""The fields of a row of train.jsonl. The trainer writes rows, and the report reads them.

T and beta are those in use after the iteration. `iou_statistic` and `error_statistic` are the quantities that move
them, `positives` and `proposals_50` to `proposals_70` (IoU with the best ground-truth box) are counts per image.
T, beta, statistics and counts are those of the first group of images; losses are means over all groups.

The columns of TIMING are measured between two rows, without evaluations, and differ from attempt to attempt: `seconds`
per iteration; `data_seconds`, the part of them in which the process that waited longest waited for images; images per
second of all processes; and the largest peak memory of a process so far, on its GPU or, without GPUs, resident.

Of a Cascade head, T, beta, statistics, counts and `acc` are those of the first stage, `T_stage2` and so on those of the
later ones, and the RoI head's losses are sums over the stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LOSSES = ("loss", "loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox", "acc")
PROPOSAL_IOUS = {"proposals_50": 0.5, "proposals_60": 0.6, "proposals_70": 0.7}
TIMING = ("seconds", "data_seconds", "images_per_second", "peak_bytes")
LATER_STAGES = (2, 3)  # of a Cascade head


def stage_column(name: str, stage: int) -> str:
    """The column of T or beta (`name`) of a stage; the first has number 1."""
    return name if stage == 1 else f"{name}_stage{stage}"


def sum_stages(losses: Mapping[str, float]) -> dict[str, float]:
    """The losses of a Cascade head ("s0.loss_cls") summed over its stages, and the first stage's accuracy; else {}."""
    found: dict[str, float] = {}
    for name, value in losses.items():
        _stage, _, own = name.partition(".")
        if own and (own not in found or "loss" in own):
            found[own] = found.get(own, 0.0) + value
    return found


LOG_COLUMNS = (  # the numbers of a row
    *("iteration", *LOSSES, "lr", "T", "beta"),
    *("iou_statistic", "error_statistic", "positives", *PROPOSAL_IOUS, *TIMING),
    *(stage_column(name, stage) for stage in LATER_STAGES for name in ("T", "beta")),
)


class Histogram(NamedTuple):
    """Equal bins from 0 to `limit`; the last one also counts everything above."""

    bins: int
    limit: float


# Field `iou_histogram`: each proposal's IoU with its best ground-truth box. Field `target_histogram`: the regression
# targets |dx| and |dy| of the positives, divided by the box coder's stds.
HISTOGRAMS = {"iou": Histogram(20, 1.0), "target": Histogram(30, 3.0)}

# Field `iou_by_rank`: what `iou_statistic` would be with each of these K_I, and `error_by_rank`: what `error_statistic`
# would be with each of these K_beta, measured as in mmdet; None without positives.
RANKS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 75, 100, 150, 200, 300)

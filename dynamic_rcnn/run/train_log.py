"""The fields of a row of train.jsonl. The trainer writes rows, and the report reads them.

T and beta are those in use after the iteration. `iou_statistic` and `error_statistic` are the quantities that move
them, `positives` and `proposals_50` to `proposals_70` (IoU with the best ground-truth box) are counts per image.
T, beta, statistics and counts are those of the first group of images; losses are means over all groups.

The columns of TIMING are measured between two rows, without evaluations, and differ from attempt to attempt: `seconds`
per iteration; `data_seconds`, of these, in which the process that waited longest waited for images; images per second
of all processes; and the peak memory so far of the process with the largest, on its GPU or without GPUs resident.
"""

from __future__ import annotations

from typing import NamedTuple

LOSSES = ("loss", "loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox", "acc")
PROPOSAL_IOUS = {"proposals_50": 0.5, "proposals_60": 0.6, "proposals_70": 0.7}
TIMING = ("seconds", "data_seconds", "images_per_second", "peak_bytes")
LOG_COLUMNS = (  # the numbers of a row
    *("iteration", *LOSSES, "lr", "T", "beta"),
    *("iou_statistic", "error_statistic", "positives", *PROPOSAL_IOUS, *TIMING),
)


class Histogram(NamedTuple):
    """Equal bins from 0 to `limit`; the last one also counts everything above."""

    bins: int
    limit: float


# Field `iou_histogram`: each proposal's IoU with its best ground-truth box. Field `target_histogram`: the regression
# targets |dx| and |dy| of the positives, divided by the box coder's stds.
HISTOGRAMS = {"iou": Histogram(20, 1.0), "target": Histogram(30, 3.0)}

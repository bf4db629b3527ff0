"""The fields of a row of train.jsonl. The trainer writes rows, and the report reads them.

T and beta are those in use after the iteration. `iou_statistic` and `error_statistic` are the quantities that move
them, `positives` and `proposals_50` to `proposals_70` (IoU with the best ground-truth box) are counts per image.
T, beta, statistics and counts are those of the first group of images; losses are means over all groups. Times are in
seconds per iteration.
"""

from __future__ import annotations

from typing import NamedTuple

LOSSES = ("loss", "loss_cls", "loss_bbox", "loss_rpn_cls", "loss_rpn_bbox", "acc")
PROPOSAL_IOUS = {"proposals_50": 0.5, "proposals_60": 0.6, "proposals_70": 0.7}
LOG_COLUMNS = (  # the numbers of a row
    *("iteration", *LOSSES, "lr", "T", "beta"),
    *("iou_statistic", "error_statistic", "positives", *PROPOSAL_IOUS, "seconds"),
)


class Histogram(NamedTuple):
    """Equal bins from 0 to `limit`; the last one also counts everything above."""

    bins: int
    limit: float


# Field `iou_histogram`: each proposal's IoU with its best ground-truth box. Field `target_histogram`: the regression
# targets |dx| and |dy| of the positives, divided by the box coder's stds.
HISTOGRAMS = {"iou": Histogram(20, 1.0), "target": Histogram(30, 3.0)}

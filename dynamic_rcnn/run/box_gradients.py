"""box_gradients.json in a run's directory: which errors the box loss learns from, at fixed T and beta."""

from __future__ import annotations

from dynamic_rcnn.run.files import FileContent, Part
from dynamic_rcnn.run.values import Count, Fraction


class GradientShares(Part):
    """At one IoU threshold T of label assignment.

    Attributes:
        T: the threshold.
        positives: number of positive proposals.
        median: of the absolute errors of their coordinates, divided by the box coder's stds.
        shares: beta with four decimals -> the share of SmoothL1's gradient that comes from errors below the limit.
    """

    T: float
    positives: Count
    median: float
    shares: dict[str, Fraction]


class BoxGradients(FileContent):
    """images: number of training images. below: the limit of small errors."""

    images: Count
    below: float
    thresholds: list[GradientShares]

"""The noise over images of the runs of a grid, from the statistics that `analysis/images.py` wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.reading.image_statistics import ImageStatistics
from dynamic_rcnn.metrics.columns import Floats
from dynamic_rcnn.metrics.names import AP_THRESHOLDS

Metric = str | float
PERCENT = 100.0
TOLERANCE = 1e-6  # in percent, because sums in another order differ


def image_fault(images: ImageStatistics | None, runs: pd.DataFrame) -> str | None:
    """Why the statistics give no noise over images for these runs, or None. runs: rows of `RunTable.runs`."""
    if images is None or not images.sampling:
        return "not computed"
    missing = [path for path in runs["path"] if path not in images.runs]
    if missing:
        return f"not computed for {missing[0]}"
    position = {path: at for at, path in enumerate(images.runs)}
    for path, recorded in runs[["path", "AP"]].itertuples(index=False):
        there = PERCENT * images.sampling["AP"].values[position[path]]
        if not abs(there - PERCENT * recorded) <= TOLERANCE:
            return f"AP of {path} is {there:.2f} there, but {PERCENT * recorded:.2f} in its metrics.json"
    return None


def image_covariance(images: ImageStatistics, metric: Metric, paths: Sequence[str]) -> tuple[Floats, int] | None:
    """The covariance of runs over resamples of the images in squared percent, and its degrees of freedom.

    Args:
        images: the statistics of the runs' grid.
        metric: None is returned for one that is not resampled, such as AP of masks.
        paths: the runs, in the order of the matrix.
    """
    iou = AP_THRESHOLDS.get(metric) if isinstance(metric, str) else metric
    sampling = images.sampling.get(str(metric) if iou is None else f"{iou:.2f}")
    if sampling is None:
        return None
    position = {path: at for at, path in enumerate(images.runs)}
    rows = [position[path] for path in paths]
    lower = np.zeros((len(position), len(position)))
    for at, row in enumerate(sampling.covariance):
        lower[at, : at + 1] = row
    whole = lower + np.tril(lower, -1).T
    return PERCENT**2 * whole[np.ix_(rows, rows)], min(images.images, images.resamples) - 1

"""The categories, object sizes and images in which two arms differ most. Values are fractions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.detections.matching import AREAS, IOU_THRESHOLDS, Matches, match
from analysis.detections.weighted_ap import METRICS, Accumulation
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import Detections, Floats, Objects

MIN_SCORE = 0.5
ALL = "all"


def ap_by_category_and_size(objects: Objects, detections: Detections) -> pd.DataFrame:
    """AP of one run by category and object size, equal to pycocotools'.

    Returns:
        Columns category ("all": the mean over categories), size (a name of `AREAS`), and the names of `METRICS`; NaN
        without such objects.
    """
    everything = np.ones(len(objects.image_ids), np.uint16)
    rows = []
    for size in AREAS:
        accumulation = Accumulation(match(objects, detections, size))
        values = [(ALL, accumulation.metrics(everything))]
        values += zip(objects.names, accumulation.by_category(everything), strict=True)
        rows += [{"category": name, "size": size, **dict(zip(METRICS, row, strict=True))} for name, row in values]
    return pd.DataFrame(rows, columns=["category", "size", *METRICS])


def largest_changes(arm: Sequence[pd.DataFrame], baseline: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Categories and object sizes by the absolute difference in AP between two arms, largest first.

    Args:
        arm: the result of `ap_by_category_and_size` for each seed.
        baseline: the same for the baseline, for the same seeds. With other seeds, the difference would contain that of
            their pretrainings.

    Returns:
        Columns category, size, arm and baseline (means over the seeds), difference; without rows that have no objects.
    """
    keys = ["category", "size"]
    means = [pd.concat(list(frames)).groupby(keys, sort=False)["AP"].mean() for frames in (arm, baseline)]
    frame = pd.DataFrame(dict(zip(("arm", "baseline"), means, strict=True))).dropna().reset_index()
    frame["difference"] = frame["arm"] - frame["baseline"]
    return frame.sort_values("difference", key=abs, ascending=False, kind="stable", ignore_index=True)


def image_scores(matches: Matches) -> Floats:
    """(images,): F1 of each image over all categories, for detections with a score of at least MIN_SCORE.

    F1 is 2 TP / (2 TP + FP + FN), mean over IoU 0.50 to 0.95; 1 for an image without objects and detections. The
    threshold leaves out the dozens of low-scoring boxes per image. It is the same for all arms, so an arm with lower
    scores throughout loses here, unlike in AP.
    """
    images = len(matches.image_ids)
    kept = matches.score >= MIN_SCORE
    true = [np.bincount(matches.image[kept & flags], minlength=images) for flags in matches.true]
    positives = [np.bincount(matches.image[kept & ~flags], minlength=images) for flags in matches.ignored]
    either = np.array(positives) + np.bincount(matches.object_image, minlength=images)
    scores = np.where(either > 0, 2 * np.array(true) / np.maximum(either, 1), 1.0)
    return np.asarray(scores.sum(axis=0) / len(IOU_THRESHOLDS))


def images_that_differ(arm: Sequence[Matches], baseline: Sequence[Matches]) -> pd.DataFrame:
    """Images by the absolute difference of their scores (`image_scores`, mean over seeds) between two arms.

    Returns:
        Columns image_id, arm, baseline, difference; largest first, equal ones by image id.

    Raises:
        UserError: an arm has no run, or the runs are on different images.
    """
    runs = [*arm, *baseline]
    if not arm or not baseline:
        raise UserError("images that differ: an arm has no run; give the matched detections of at least one seed each")
    if not all(np.array_equal(run.image_ids, runs[0].image_ids) for run in runs):
        raise UserError("images that differ: the arms were evaluated on different images")
    ours, theirs = (np.mean([image_scores(run) for run in part], axis=0) for part in (arm, baseline))
    columns = {"image_id": runs[0].image_ids, "arm": ours, "baseline": theirs, "difference": ours - theirs}
    # Rounded for sorting, so that the last bits of the means do not order equal differences
    return pd.DataFrame(columns).sort_values(
        "difference", key=lambda values: values.abs().round(12), ascending=False, kind="stable", ignore_index=True
    )

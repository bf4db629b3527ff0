"""Precision and AP of resampled images from one sorted list of detections: COCOeval.accumulate with weights.

An image that is drawn w times counts w times. The result equals, bit for bit, that of pycocotools on a data set with w
copies of the image in a row. Three facts make this fast:

- Interpolated precision is read at true positives only. A cumulative sum of weights, shared by all IoU thresholds,
  counts the false positives between them, minus a short one of the ignored detections.
- A recall threshold is a number of true positives, found in a cumulative sum of integers. One search serves all
  categories and thresholds.
- Precision rises along the copies of a true positive and falls along those of a false one: the ends are enough.

The last does not hold if detections of one image, category and score are partly true: COCOeval takes them in turn, copy
by copy. These few are laid out copy by copy here, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.detections.matching import Matches
from dynamic_rcnn.metrics.columns import Booleans, Floats, Integers
from dynamic_rcnn.metrics.names import AP_THRESHOLDS, IOU_THRESHOLDS

RECALL_THRESHOLDS: Floats = np.linspace(0.0, 1.0, 101, dtype=np.float64)
METRICS: dict[str, float | None] = {"AP": None, **AP_THRESHOLDS}

Counts = NDArray[np.int32]  # half the memory traffic of int64, and enough for 2e9 detections


class Accumulation:
    """Weighted precision of one run.

    Args:
        matches: the result of `analysis.detections.matching.match`.
        copies: the largest weight that `metrics` and `by_category` will get.
    """

    def __init__(self, matches: Matches, copies: int = 1) -> None:
        self.copies = copies
        self.categories = len(matches.names)
        self._images = len(matches.image_ids)
        self._object_image, self._object_category = matches.object_image, matches.object_category
        source, self._image, self._tied = _lay_out(matches, copies)
        category = matches.category[source]
        starts = np.searchsorted(category, np.arange(self.categories + 1))  # of each category's rows
        self._starts = np.tile(starts[:-1], len(IOU_THRESHOLDS))  # a segment is a threshold and a category

        true, ignored = matches.true[:, source], matches.ignored[:, source]
        at, row = np.nonzero(true)  # the true positives by threshold, category and descending score
        segment = at * self.categories + category[row]
        self._ends = np.searchsorted(segment, np.arange(len(IOU_THRESHOLDS) * self.categories + 1))
        self._lengths = np.diff(self._ends)
        self._true_image, self._row = self._image[row], row + 1
        at_ignored, row_ignored = np.nonzero(ignored)
        self._ignored_image = self._image[row_ignored]
        keys = at_ignored * (len(category) + 1) + row_ignored
        self._skipped = np.searchsorted(keys, at * (len(category) + 1) + row)
        threshold = np.repeat(np.arange(len(IOU_THRESHOLDS)), self.categories)
        self._skipped_starts = np.searchsorted(keys, threshold * (len(category) + 1) + self._starts)

    def metrics(self, weights: NDArray[np.integer]) -> Floats:
        """The values of `METRICS`, as fractions; NaN if no category has objects.

        Args:
            weights: (images,), how often each image was drawn; not all 0, and at most `copies`.
        """
        by_segment, defined = self.by_segment(weights)
        if not defined.any():
            return np.full(len(METRICS), np.nan)
        return _means(by_segment[:, defined])

    def by_iou(self, weights: NDArray[np.integer]) -> Floats:
        """(10,): AP at each IoU threshold; AP is their mean. weights: as in `metrics`."""
        by_segment, defined = self.by_segment(weights)
        return np.asarray(by_segment[:, defined].mean(axis=(1, 2))) if defined.any() else np.full(10, np.nan)

    def by_category(self, weights: NDArray[np.integer]) -> Floats:
        """(categories, metrics): the same for each category; NaN for one without objects."""
        by_segment, defined = self.by_segment(weights)
        rows = [_means(by_segment[:, [number]]) for number in range(self.categories)]
        return np.where(defined[:, None], np.array(rows).reshape(-1, len(METRICS)), np.nan)

    def by_segment(self, weights: NDArray[np.integer]) -> tuple[Floats, Booleans]:
        """Precision as (10, categories, 101), 0 without objects, and which categories have objects."""
        drawn = self._with_tied(weights)
        drawn_objects = np.bincount(self._object_category, drawn[self._object_image], self.categories)
        positives = drawn_objects.astype(np.float64)
        true_drawn = drawn[self._true_image]
        true = _cumulated(true_drawn)
        before = true[self._ends]  # at each segment's start, and the end
        values = np.zeros(len(true))
        own = true[1:] - np.repeat(before[:-1], self._lengths)
        np.divide(own, self._counted(drawn) + np.spacing(1), out=values[:-1])

        needed = np.tile(needed_positives(positives), (len(IOU_THRESHOLDS), 1))  # (segments, 101)
        reached = needed <= np.diff(before)[:, None]
        by_count = np.repeat(np.arange(len(true_drawn)), true_drawn)  # the row that has the n-th true positive
        first = np.repeat(self._ends[1:, None], needed.shape[1] + 1, axis=1)  # a column more: each segment's end
        first[:, :-1][reached] = by_count[(before[:-1, None] + needed)[reached] - 1]
        # The maximum from each recall threshold to the next that is reached; then the maximum from there on
        used = np.column_stack([reached, np.ones(len(reached), np.bool_)])
        parts = np.zeros(first.shape)
        parts[used] = np.maximum.reduceat(values, first[used])
        highest = np.maximum.accumulate(parts[:, -2::-1], axis=1)[:, ::-1]
        return highest.reshape(len(IOU_THRESHOLDS), self.categories, -1), positives > 0

    def _counted(self, drawn: Counts) -> Counts:
        """True and false positives down to each true positive, within its category."""
        rows = _cumulated(drawn[self._image])
        counted = rows[self._row] - np.repeat(rows[self._starts], self._lengths)
        if not len(self._ignored_image):
            return counted
        ignored = _cumulated(drawn[self._ignored_image])
        return counted - (ignored[self._skipped] - np.repeat(ignored[self._skipped_starts], self._lengths))

    def _with_tied(self, weights: NDArray[np.integer]) -> Counts:
        """The weights, and for the images laid out copy by copy whether each copy was drawn."""
        if weights.shape != (self._images,) or weights.max(initial=0) > self.copies:
            raise ValueError(
                f"weights of shape {weights.shape} up to {weights.max(initial=0)}; "
                f"they must be {self._images}, one per image, and at most copies={self.copies}"
            )
        copies = weights[self._tied] > np.arange(self.copies)[:, None]
        return np.concatenate([weights, copies.reshape(-1)]).astype(np.int32)


def _lay_out(matches: Matches, copies: int) -> tuple[Integers, Integers, Integers]:
    """Each detection once; those of one image, category and score that are partly true `copies` times, in turn.

    Returns:
        For each row its position in `matches` and that of its weight; the images with such detections.
    """
    total = len(matches.image)
    source = np.arange(total)
    changes = [np.flatnonzero(np.diff(part)) + 1 for part in (matches.category, matches.score, matches.image)]
    starts = np.unique(np.concatenate([[0], *changes])) if total else np.zeros(0, np.int64)
    if copies < 2 or len(starts) == total:
        return source, matches.image, np.zeros(0, np.int64)
    some_true, some_false = (np.maximum.reduceat(flags, starts, axis=1) for flags in (matches.true, matches.false))
    mixed: Booleans = np.asarray((some_true & some_false).any(axis=0))
    group = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, total)))
    repeats = np.where(mixed[group], copies, 1)
    source = np.repeat(source, repeats)
    copy = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    order = np.lexsort((copy, group[source]))
    source, copy = source[order], copy[order]
    image, laid_out = matches.image[source], mixed[group[source]]
    tied = np.unique(image[laid_out])
    slot = len(matches.image_ids) + copy * len(tied) + np.searchsorted(tied, image)
    return source, np.where(laid_out, slot, image), tied


def needed_positives(positives: Floats) -> Integers:
    """(categories, 101): the fewest true positives whose recall reaches each recall threshold, at least one.

    Recall is a float division, as in COCOeval, so the product is only a first guess. Without positives: unreachable.
    """
    count = np.where(positives > 0, positives, 1)[:, None]
    guess = np.ceil(RECALL_THRESHOLDS * count)
    guess = np.where((guess - 1) / count >= RECALL_THRESHOLDS, guess - 1, guess)
    guess = np.where(guess / count < RECALL_THRESHOLDS, guess + 1, guess)
    unreachable = np.iinfo(np.int32).max
    return np.where(positives[:, None] > 0, np.maximum(guess, 1), unreachable).astype(np.int64)


def _means(by_segment: Floats) -> Floats:
    """The metrics of precision as (10, categories, 101)."""
    # In the memory order of COCOeval's array, because a sum of floats depends on its order
    values = np.ascontiguousarray(by_segment.transpose(0, 2, 1))
    parts = [values if iou is None else values[IOU_THRESHOLDS.index(iou)] for iou in METRICS.values()]
    return np.array([np.mean(part.reshape(-1)) for part in parts])


def _cumulated(values: Counts) -> Counts:
    """The cumulative sum with a 0 before it."""
    total = np.zeros(len(values) + 1, np.int32)
    np.cumsum(values, out=total[1:])
    return total

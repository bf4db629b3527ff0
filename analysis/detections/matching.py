"""Matches detections with objects, with the results of COCOeval.evaluate in a fraction of its time.

COCOeval loops in Python over every category, image and IoU threshold. This module visits only the pairs of boxes that
reach the lowest threshold. IoUs come from pycocotools; a test compares all flags.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools import mask

from dynamic_rcnn.metrics.columns import Booleans, Detections, Floats, Integers, Objects, rows_by_image

IOU_THRESHOLDS: Floats = np.linspace(
    0.5, 0.95, 10, dtype=np.float64
)  # the expression of pycocotools' Params: its 0.9 is 0.8999...
LOWEST = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)  # the number with which COCOeval compares an IoU
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100  # per image and category

Candidate = tuple[int, float]  # object, IoU


@dataclass(frozen=True)
class Matches:
    """The D detections of one run and the N objects, matched at the ten IoU thresholds.

    Detections are sorted by category and descending score; equal scores by image, then as in the file, the order in
    which COCOeval accumulates them. Those beyond 100 per image and category are left out, as are crowds and objects
    outside the area range.
    """

    image_ids: Integers  # (images,)
    names: tuple[str, ...]  # of the categories
    image: Integers  # (D,), position in image_ids
    category: Integers  # (D,)
    score: Floats  # (D,)
    matched: Booleans  # (10, D)
    ignored: Booleans  # (10, D): neither a true nor a false positive
    object_image: Integers  # (N,)
    object_category: Integers  # (N,)

    @property
    def true(self) -> Booleans:
        """(10, D): the true positives."""
        return self.matched & ~self.ignored

    @property
    def false(self) -> Booleans:
        """(10, D): the false positives."""
        return ~self.matched & ~self.ignored


def match(objects: Objects, detections: Detections, area: str = "all") -> Matches:
    """Match the detections of one run.

    Args:
        objects: the ground truth.
        detections: on its images and categories.
        area: a name of `AREAS`; objects outside it are ignored, as in APs, APm and APl.
    """
    kept = _ranked(detections)
    ranked = Detections(*(getattr(detections, name)[kept] for name in Detections.__dataclass_fields__))
    ignorable = objects.crowd | _outside(objects.area, area)
    matched, ignored = _match_ranked(objects, ignorable, ranked)
    ignored |= ~matched & _outside(ranked.box[:, 2] * ranked.box[:, 3], area)
    order = np.lexsort((-ranked.score, ranked.category))  # stable: ties stay by image, then as in the file
    return Matches(
        objects.image_ids,
        objects.names,
        ranked.image[order],
        ranked.category[order],
        ranked.score[order],
        matched[:, order],
        ignored[:, order],
        objects.image[~ignorable],
        objects.category[~ignorable],
    )


def _outside(sizes: Floats, area: str) -> Booleans:
    smallest, largest = AREAS[area]
    return (sizes < smallest) | (sizes > largest)


def _match_ranked(objects: Objects, ignorable: Booleans, ranked: Detections) -> tuple[Booleans, Booleans]:
    """Which detections are matched, and which of these with ignorable objects: both (10, D)."""
    matched = np.zeros((len(IOU_THRESHOLDS), len(ranked.score)), np.bool_)
    ignored = np.zeros_like(matched)
    taken = [set[int]() for _ in IOU_THRESHOLDS]
    crowd, last = objects.crowd.tolist(), ignorable.tolist()
    for detection, candidates in _candidates(objects, ignorable, ranked):
        best = max(iou for _, iou in candidates)
        for at, lowest in enumerate(LOWEST.tolist()):
            if best < lowest:
                break
            target = _choose(candidates, lowest, taken[at], crowd, last)
            if target is not None:
                taken[at].add(target)
                matched[at, detection], ignored[at, detection] = True, last[target]
    return matched, ignored


def _ranked(detections: Detections) -> Integers:
    """Positions of the detections by image, category and descending score, at most 100 per image and category."""
    order = np.lexsort((-detections.score, detections.category, detections.image))
    image, category = detections.image[order], detections.category[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (image[1:] != image[:-1]) | (category[1:] != category[:-1])
    starts = np.flatnonzero(first)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return order[rank < MAX_DETECTIONS].astype(np.int64)


def _candidates(objects: Objects, ignorable: Booleans, ranked: Detections) -> Iterator[tuple[int, list[Candidate]]]:
    """Each detection that reaches an object of its category, with all objects it reaches, ignorable ones last."""
    images = len(objects.image_ids)
    targets = rows_by_image(objects.image, images, ignorable)
    for here, there in zip(rows_by_image(ranked.image, images), targets, strict=True):
        if not len(here) or not len(there):
            continue
        ious = mask.iou(ranked.box[here], objects.box[there], objects.crowd[there].astype(np.uint8))
        reached = (ious >= LOWEST[0]) & (ranked.category[here, None] == objects.category[there])
        rows, columns = np.nonzero(reached)
        reached_by: dict[int, list[Candidate]] = {}
        pairs = zip(rows.tolist(), there[columns].tolist(), ious[rows, columns].tolist(), strict=True)
        for row, target, iou in pairs:
            reached_by.setdefault(row, []).append((target, iou))
        for row, candidates in reached_by.items():
            yield int(here[row]), candidates


def _choose(
    candidates: list[Candidate], lowest: float, taken: set[int], crowd: list[bool], ignorable: list[bool]
) -> int | None:
    """The unmatched object with the highest IoU; of equal ones, the last. A crowd can be matched repeatedly."""
    chosen: int | None = None
    for target, iou in candidates:
        if target in taken and not crowd[target]:
            continue
        if chosen is not None and not ignorable[chosen] and ignorable[target]:
            break  # objects that count come before ignorable ones
        if iou >= lowest:
            lowest, chosen = iou, target
    return chosen

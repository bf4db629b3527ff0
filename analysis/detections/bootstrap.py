"""Paired bootstrap over images: how much AP of several runs depends, together, on the choice of images.

All runs are evaluated on the same resampled images, so the difficulty of an image cancels out of a difference. The
result is a covariance of runs, from which `analysis.stats.blocks` takes the noise over images of means and differences.

It gives no percentile intervals: AP of a resample is higher on average than AP of the images, because copies of a true
positive raise each other's precision. On the data of `benchmarks.time_bootstrap` (5,000 images, 80 categories) an AP of
38.2 has resamples from 38.4 to 39.0. A covariance does not depend on this shift.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from analysis.detections.matching import IOU_THRESHOLDS, Matches
from analysis.detections.weighted_ap import Accumulation
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.columns import Floats

Weights = NDArray[np.uint16]


@dataclass(frozen=True)
class Bootstrap:
    """AP at the ten IoU thresholds of each run as a fraction, on the original images and on each resample."""

    point: Floats  # (runs, 10); NaN without objects
    samples: Floats  # (resamples, runs, 10)

    def sampling(self) -> dict[str, tuple[Floats, Floats]]:
        """ "AP" and each IoU threshold, such as "0.75" -> the values (runs,), their covariance (runs, runs).

        Resamples without objects are left out. {} if there are no objects, or fewer than two other resamples.
        """
        samples = self.samples[~np.isnan(self.samples).any(axis=(1, 2))]
        if np.isnan(self.point).any() or len(samples) < 2:
            return {}
        names = ["AP", *(f"{iou:.2f}" for iou in IOU_THRESHOLDS)]
        point, drawn = (
            np.concatenate([each.mean(axis=-1, keepdims=True), each], axis=-1) for each in (self.point, samples)
        )
        centred = drawn - drawn.mean(axis=0)
        covariance = np.einsum("sim,sjm->mij", centred, centred, optimize=True) / (len(samples) - 1)
        return {name: (point[:, at], covariance[at]) for at, name in enumerate(names)}


def bootstrap(runs: Sequence[Matches], resamples: int, rng: np.random.Generator, workers: int = 1) -> Bootstrap:
    """Resample the images `resamples` times and evaluate all runs on each resample.

    Args:
        runs: the matched detections of each run, all on one data set.
        resamples: the number of resamples.
        rng: draws the images. The result depends on its state and not on `workers`.
        workers: the number of processes. If above 1, they are spawned, so the calling script needs
            `if __name__ == "__main__"`.

    Raises:
        UserError: no run, runs on different images or categories, or no resample.
    """
    _check(runs, resamples)
    images = len(runs[0].image_ids)
    weights = np.concatenate([np.ones((1, images), np.uint16), draw_weights(images, resamples, rng)])
    if workers == 1:
        values = [_evaluate(run, weights) for run in runs]
    else:  # not forked, since the caller may have threads, such as those of a BLAS
        with ProcessPoolExecutor(workers, get_context("spawn"), _start, (weights,)) as pool:
            values = list(pool.map(_evaluate_in_process, runs))
    return Bootstrap(*(np.stack([each[part] for each in values], axis=-2) for part in (0, slice(1, None))))


def draw_weights(images: int, resamples: int, rng: np.random.Generator) -> Weights:
    """(resamples, images): how often each image is in a resample, drawn with replacement to the original size."""
    drawn = (np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(resamples))
    return np.array(list(drawn), np.uint16)


def _evaluate(run: Matches, weights: Weights) -> Floats:
    """(resamples, 10)."""
    accumulation = Accumulation(run, int(weights.max()))
    return np.array([accumulation.by_iou(row) for row in weights])


_here: list[Weights] = []  # set in each spawned process


def _start(weights: Weights) -> None:
    # Until a large array was freed once, glibc returns every array above 128 kB to the kernel: 10 ms of page faults per
    # evaluation of 20 ms, at the size of COCO val2017
    np.empty(16 << 20, np.uint8)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    _here[:] = [weights]


def _evaluate_in_process(run: Matches) -> Floats:
    return _evaluate(run, _here[0])


def _check(runs: Sequence[Matches], resamples: int) -> None:
    if resamples < 2:
        raise UserError(f"resamples is {resamples}; it must be at least 2 (200 is usual)")
    if not runs:
        raise UserError("no run to resample; give at least one run's matched detections")
    for number, run in enumerate(runs[1:], start=1):
        if not np.array_equal(run.image_ids, runs[0].image_ids) or run.names != runs[0].names:
            raise UserError(f"run {number} was evaluated on different images or categories than run 0")

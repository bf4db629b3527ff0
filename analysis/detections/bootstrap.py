"""Paired bootstrap over images: how much AP and its differences between arms depend on the choice of images.

All runs are evaluated on the same resampled images, so the difficulty of an image cancels out of a difference. Values
are fractions, those of an arm the mean over its seeds. An interval is for these trained models: it does not include the
noise between seeds, which `analysis.stats.seeds` estimates.

Compare arms by differences, and do not print an interval of AP itself: AP of a resample is higher on average than AP of
the images, because copies of a true positive raise each other's precision. On the data of `benchmarks.time_bootstrap`
(5,000 images, 80 categories) an AP of 38.2 has the interval 38.4 to 39.0. Most of this cancels in a difference.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.detections.matching import Matches
from analysis.detections.weighted_ap import METRICS, Accumulation
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.metrics.columns import Floats

Weights = NDArray[np.uint16]
BLOCK = 25  # number of resamples in a task of a process


@dataclass(frozen=True)
class Estimate:
    """A metric of an arm, or its difference from a baseline, with its percentile interval.

    Attributes:
        value: the metric, or the difference, on the original images.
        low, high: the interval. The value and the interval are None if the metric is undefined.
        resamples: the number of resamples in which the metric is defined.
    """

    metric: str
    arm: str
    baseline: str | None
    value: float | None
    low: float | None
    high: float | None
    resamples: int


@dataclass(frozen=True)
class Bootstrap:
    """AP of each arm on the original images and on each resample, mean over the arm's seeds."""

    arms: tuple[str, ...]
    point: Floats  # (arms, metrics), in the order of METRICS; NaN where undefined
    samples: Floats  # (resamples, arms, metrics)

    def estimate(self, metric: str, arm: str, baseline: str | None = None, confidence: float = 0.9) -> Estimate:
        """A metric of `arm`, or of `arm` minus `baseline` on the same images, with its central interval.

        Raises:
            UserError: an unknown metric or arm, or a confidence outside (0, 1).
        """
        if metric not in METRICS:
            raise unknown_name("metric", [metric], METRICS)
        if not 0 < confidence < 1:
            raise UserError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.9")
        column = list(METRICS).index(metric)
        point, samples = self.point[self._row(arm), column], self.samples[:, self._row(arm), column]
        if baseline is not None:
            point = point - self.point[self._row(baseline), column]
            samples = samples - self.samples[:, self._row(baseline), column]
        defined = samples[~np.isnan(samples)]
        if np.isnan(point) or not defined.size:
            return Estimate(metric, arm, baseline, None, None, None, 0)
        low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(metric, arm, baseline, float(point), float(low), float(high), defined.size)

    def frame(self, baseline: str | None = None, confidence: float = 0.9) -> pd.DataFrame:
        """One row per metric and arm with the fields of `Estimate`; with a baseline, of the differences from it."""
        arms = [arm for arm in self.arms if arm != baseline]
        rows = [self.estimate(metric, arm, baseline, confidence) for arm in arms for metric in METRICS]
        return pd.DataFrame(rows, columns=list(Estimate.__dataclass_fields__))

    def _row(self, arm: str) -> int:
        if arm not in self.arms:
            raise unknown_name("arm", [arm], self.arms)
        return self.arms.index(arm)


def bootstrap(
    arms: Mapping[str, Sequence[Matches]], resamples: int, rng: np.random.Generator, workers: int = 1
) -> Bootstrap:
    """Resample the images `resamples` times and evaluate all runs on each resample.

    Args:
        arms: arm -> the matched detections of its seeds, all on one data set; numbers of seeds may differ.
        resamples: the number of resamples.
        rng: draws the images. The result depends on its state and not on `workers`.
        workers: the number of processes. If above 1, they are spawned, so the calling script needs
            `if __name__ == "__main__"`.

    Raises:
        UserError: no arm, an arm without runs, runs on different images or categories, or no resample.
    """
    _check(arms, resamples)
    runs = [run for matches in arms.values() for run in matches]
    weights = draw_weights(len(runs[0].image_ids), resamples, rng)
    everything = np.ones((1, weights.shape[1]), np.uint16)
    accumulations = [Accumulation(run, int(weights.max())) for run in runs]
    point = _evaluate(accumulations, everything)
    blocks = [weights[start : start + BLOCK] for start in range(0, resamples, BLOCK)]
    samples = np.concatenate(_evaluate_blocks(accumulations, blocks, workers))
    sizes = [len(matches) for matches in arms.values()]
    return Bootstrap(tuple(arms), _arm_means(point, sizes)[0], _arm_means(samples, sizes))


def draw_weights(images: int, resamples: int, rng: np.random.Generator) -> Weights:
    """(resamples, images): how often each image is in a resample, drawn with replacement to the original size."""
    drawn = (np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(resamples))
    return np.array(list(drawn), np.uint16)


def _arm_means(values: Floats, sizes: Sequence[int]) -> Floats:
    """(..., runs, metrics) to (..., arms, metrics)."""
    ends = np.cumsum(sizes)
    parts = [values[:, end - size : end].mean(axis=1) for end, size in zip(ends, sizes, strict=True)]
    return np.stack(parts, axis=1)


def _evaluate(accumulations: Sequence[Accumulation], weights: Weights) -> Floats:
    """(resamples, runs, metrics)."""
    return np.array([[run.metrics(row) for run in accumulations] for row in weights])


def _evaluate_blocks(accumulations: Sequence[Accumulation], blocks: Sequence[Weights], workers: int) -> list[Floats]:
    """`_evaluate` of each block, in order."""
    if workers == 1:
        return [_evaluate(accumulations, block) for block in blocks]
    # Not forked, since the caller may have threads, such as those of a BLAS
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (accumulations,)) as pool:
        return list(pool.map(_evaluate_in_process, blocks))


_here: list[Accumulation] = []  # set in each spawned process


def _start(accumulations: Sequence[Accumulation]) -> None:
    # Until a large array was freed once, glibc returns every array above 128 kB to the kernel: 10 ms of page faults per
    # evaluation of 20 ms, at the size of COCO val2017
    np.empty(16 << 20, np.uint8)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    _here[:] = accumulations


def _evaluate_in_process(weights: Weights) -> Floats:
    return _evaluate(_here, weights)


def _check(arms: Mapping[str, Sequence[Matches]], resamples: int) -> None:
    if resamples < 1:
        raise UserError(f"resamples is {resamples}; it must be at least 1 (1000 is usual)")
    if not arms:
        raise UserError("no arm to resample; give at least one, with the matched detections of its seeds")
    for arm, runs in arms.items():
        if not runs:
            raise UserError(f"arm {arm!r} has no runs; remove it, or give the matched detections of its seeds")
    name, (first, *_) = next(iter(arms.items()))
    for arm, run in ((arm, run) for arm, runs in arms.items() for run in runs):
        if not np.array_equal(run.image_ids, first.image_ids) or run.names != first.names:
            raise UserError(f"arm {arm!r} was evaluated on different images or categories than {name!r}")

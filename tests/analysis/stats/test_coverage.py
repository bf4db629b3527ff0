"""How often the intervals contain the truth, with seeds and images drawn many times."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from analysis.detections.bootstrap import bootstrap
from analysis.detections.matching import Matches
from analysis.detections.weighted_ap import Accumulation
from analysis.stats.blocks import Blocks, Cell
from dynamic_rcnn.metrics.columns import Floats

TRUTH = {"baseline": 50.0, "dla": 52.0, "both": 53.0}
IMAGES = 150


def cells_of(sizes: dict[str, int]) -> list[Cell]:
    return [(arm, seed) for arm, size in sizes.items() for seed in range(size)]


def covered(blocks: Blocks, cells: list[Cell], truth: dict[str, float]) -> list[str]:
    """Which of the intervals of the baseline's mean and of a difference contain the truth."""
    mean = blocks.mean([cell for cell in cells if cell[0] == "baseline"])
    difference = blocks.contrast({"both": 1, "baseline": -1})
    known = {"mean": (mean, truth["baseline"]), "difference": (difference, truth["both"] - truth["baseline"])}
    found = []
    for name, (estimate, true) in known.items():
        low, high = estimate.interval() if estimate else (None, None)
        assert low is not None and high is not None
        found += [name] if low <= true <= high else []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"baseline": 3, "dla": 3, "both": 3}, {"baseline": 8, "dla": 5, "both": 8}], ids=str)
@pytest.mark.parametrize(
    ("sds", "lowest_without"),
    [  # of seed, run, image, arm x image, run x image; the coverage of both without the noise over images is below
        pytest.param((0.5, 0.3, 0.0, 0.0, 0.0), 1.0, id="seeds"),
        pytest.param((0.1, 0.05, 10.0, 4.0, 2.0), 0.6, id="images"),
        pytest.param((0.5, 0.3, 8.0, 3.0, 5.0), 0.95, id="both"),
        pytest.param((0.0, 0.3, 8.0, 0.0, 6.0), 1.0, id="no seed effect"),
    ],
)
def test_intervals_of_means_over_images_contain_the_truth_in_95_of_100_cases(
    sizes: dict[str, int], sds: tuple[float, ...], lowest_without: float
) -> None:
    """A metric that is a mean over images, whose bootstrap has the covariance of the images over their number."""
    rng, trials, hits, cells = np.random.default_rng(0), 1000, Counter[tuple[str, bool]](), cells_of(sizes)
    for _ in range(trials):
        seeds, images = rng.normal(0, sds[0], 8), rng.normal(0, sds[2], IMAGES)
        arms = {arm: rng.normal(TRUTH[arm], sds[3], IMAGES) for arm in sizes}
        rest = [rng.normal(0, sds[1]) + rng.normal(0, sds[4], IMAGES) for _ in cells]
        scores = np.array(
            [arms[arm] + seeds[seed] + images + own for (arm, seed), own in zip(cells, rest, strict=True)]
        )
        runs = dict(zip(cells, scores.mean(axis=1).tolist(), strict=True))
        for with_images in (True, False):
            blocks = Blocks(runs, *((np.cov(scores) / IMAGES, IMAGES - 1) if with_images else ()))
            hits.update((name, with_images) for name in covered(blocks, cells, TRUTH))
    shares = {key: count / trials for key, count in hits.items()}
    assert min(shares["mean", True], shares["difference", True]) >= 0.93, shares
    assert max(shares["mean", True], shares["difference", True]) <= 0.99, shares
    assert min(shares["mean", False], shares["difference", False]) < lowest_without, shares


def draw_images(rng: np.random.Generator, images: int) -> tuple[Floats, Floats]:
    """The image of each object, and its difficulty, which depends on the image."""
    objects = np.repeat(np.arange(images), 1 + rng.poisson(2, images))
    return objects.astype(float), (rng.normal(0, 0.7, images)[objects] + rng.normal(0, 0.7, len(objects)))


def draw_run(rng: np.random.Generator, images: int, objects: Floats, difficulty: Floats, quality: float) -> Matches:
    """One category. Each object has a detection, true at the IoU thresholds below its fit; as many others are false."""
    fit = quality - difficulty + rng.normal(0, 0.7, len(objects))
    true = fit > np.linspace(-1, 2, 10)[:, None]
    score = np.append(fit + rng.normal(0, 0.7, len(fit)), rng.normal(-1, 1, len(fit)))
    order = np.argsort(-score)
    matched = np.concatenate([true, np.zeros_like(true)], axis=1)[:, order]
    image = np.append(objects.astype(int), rng.integers(0, images, len(fit)))[order]
    none = np.zeros(len(order), int)
    where = objects.astype(int)
    ids = np.arange(images)
    return Matches(
        ids, ("thing",), image, none, score[order], matched, np.zeros_like(matched), where, np.zeros_like(where)
    )


@pytest.mark.slow
def test_intervals_of_ap_contain_the_truth() -> None:
    """AP is no mean over images; the truth is AP of 20,000 images. Three seeds, 150 images, 60 resamples."""
    rng, trials, hits = np.random.default_rng(1), 150, Counter[str]()
    qualities, cells = {"baseline": 0.4, "dla": 0.5, "both": 0.7}, cells_of(dict.fromkeys(TRUTH, 3))
    population = draw_images(rng, 20_000)
    truth = {
        arm: 100 * Accumulation(draw_run(rng, 20_000, *population, quality)).metrics(np.ones(20_000, int))[0]
        for arm, quality in qualities.items()
    }
    for _ in range(trials):
        drawn, seeds = draw_images(rng, IMAGES), rng.normal(0, 0.03, 3)
        quality = [qualities[arm] + seeds[seed] + rng.normal(0, 0.03) for arm, seed in cells]
        sampling = bootstrap([draw_run(rng, IMAGES, *drawn, each) for each in quality], 60, rng).sampling()
        values, covariance = sampling["AP"]
        runs = dict(zip(cells, (100 * values).tolist(), strict=True))
        hits.update(covered(Blocks(runs, 100**2 * covariance, 59), cells, truth))
    shares = {name: count / trials for name, count in hits.items()}
    assert min(shares.values()) >= 0.91, shares  # 95%, and two standard errors

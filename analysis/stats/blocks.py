"""Runs as randomised blocks: each has an arm and a seed, and the runs of one seed are a block.

Runs of one seed share their pretraining and the order of the data. The model is additive,

    run = arm + seed + rest,

so a difference of arms is estimated by least squares, also if some arms have fewer seeds than others, and its noise is
the rest alone. The mean of an arm has the noise of seed and rest. docs/statistics.md gives the reasons.

The images are crossed with the runs: all runs are evaluated on the same ones. What a resampling of the images adds to
the variance of a weighted sum of runs is w'Cw, with C the covariance of the runs over resamples, minus the part that
differs from run to run and is in the noise between seeds already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from analysis.stats.estimate import Estimate
from analysis.stats.seeds import PooledSd
from dynamic_rcnn.metrics.columns import Floats

Cell = tuple[str, int]  # the arm and the seed of a run
_TOLERANCE = 1e-9  # of matrices of zeros and ones
_DECIMALS = 12  # of weights, so that no result depends on the last bits of a linear algebra library


class Layout:
    """What least squares does with any metric of these runs.

    Attributes:
        cells: the N runs.
        residuals, df: the projection (N, N) onto what arms and seeds leave, and its rank.
        deviations, level_df: the same for what arms alone leave.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = list(cells)
        self._arms = sorted({arm for arm, _ in cells})
        seeds = sorted({seed for _, seed in cells})
        arm_columns = np.array([[arm == each for each in self._arms] for arm, _ in cells], float)
        seed_columns = np.array([[seed == each for each in seeds] for _, seed in cells], float)
        self._design = np.hstack([arm_columns, seed_columns])
        self._inverse = np.linalg.pinv(self._design, rcond=_TOLERANCE)
        self.residuals = np.eye(len(cells)) - self._design @ self._inverse
        self.df = round(float(np.trace(self.residuals)))
        self.deviations = np.eye(len(cells)) - arm_columns @ np.linalg.pinv(arm_columns, rcond=_TOLERANCE)
        self.level_df = len(cells) - len(self._arms)
        blocked = self.deviations @ (seed_columns @ seed_columns.T)
        self._blocked_trace = float(np.sum(blocked * blocked.T))

    def contrast(self, coefficients: Mapping[str, float]) -> Floats | None:
        """(N,): the weights of the runs in a contrast of arms; None if no seeds connect its arms."""
        asked = np.zeros(self._design.shape[1])
        for arm, coefficient in coefficients.items():
            if arm not in self._arms:
                return None
            asked[self._arms.index(arm)] = coefficient
        weights = self._inverse.T @ asked
        if not np.allclose(self._design.T @ weights, asked, atol=_TOLERANCE):
            return None
        return np.asarray(np.round(weights, _DECIMALS) + 0.0)

    def effective_df(self, between: float, rest: float) -> float:
        """The degrees of freedom of the variance within arms (Satterthwaite), since arms share the seeds' effects.

        Args:
            between: the variance of seeds.
            rest: the variance of the rest.
        """
        if between + rest == 0:
            return self.level_df
        expected = self.level_df * (between + rest)
        shared = between**2 * self._blocked_trace
        return expected**2 / (shared + self.level_df * (2 * between * rest + rest**2))


_layout = lru_cache(maxsize=64)(Layout)


class Blocks:
    """One metric of the runs of a grid.

    Args:
        values: (arm, seed) -> value.
        covariance: (N, N), of the runs over resamples of the images, in the order of `values`; None if not computed.
        images_df: its degrees of freedom.

    Attributes:
        residual: the sd of a run within its block, which differences of arms have.
        level: the sd of a run within its arm, which means of arms have.
    """

    def __init__(self, values: Mapping[Cell, float], covariance: Floats | None = None, images_df: int = 0) -> None:
        self._layout = _layout(tuple(values))
        self._values = np.array(list(values.values()))
        self._covariance, self._images_df = covariance, images_df
        within = _sd(self._layout.deviations @ self._values, self._layout.level_df)
        self.residual = _sd(self._layout.residuals @ self._values, self._layout.df)
        # Without residual degrees of freedom all noise could be that of the seeds, which leaves the fewest
        rest = min(self.residual.sd or 0.0, within.sd or 0.0) ** 2
        between = (within.sd or 0.0) ** 2 - rest
        self.level = PooledSd(within.sd, self._layout.effective_df(between, rest) if within.df else 0)

    @property
    def has_images(self) -> bool:
        """Whether estimates have the noise over images."""
        return self._covariance is not None

    def contrast(self, coefficients: Mapping[str, float]) -> Estimate | None:
        """A contrast of arms, whose coefficients sum to 0; None if the runs do not determine it."""
        weights = self._layout.contrast(coefficients)
        return None if weights is None else self._estimate(weights, self.residual, self._layout.residuals)

    def mean(self, cells: Sequence[Cell]) -> Estimate | None:
        """The mean of runs of one arm; None without runs."""
        if not cells:
            return None
        weights = np.array([(cell in cells) / len(cells) for cell in self._layout.cells])
        return self._estimate(weights, self.level, self._layout.deviations)

    def _estimate(self, weights: Floats, noise: PooledSd, projection: Floats) -> Estimate:
        value = math.fsum((weights * self._values).tolist())
        spread = math.fsum((weights**2).tolist())
        if self._covariance is None or noise.sd is None:
            return Estimate(value, spread, noise)
        of_each_run = float(np.sum(projection * self._covariance)) / round(float(np.trace(projection)))
        images = max(0.0, float(weights @ self._covariance @ weights) - of_each_run * spread)
        return Estimate(value, spread, noise, images, self._images_df)


def _sd(rest: Floats, df: int) -> PooledSd:
    """The sd of what a projection of rank df leaves; unknown if df is 0. Rounding errors are no noise."""
    return PooledSd(math.sqrt(math.fsum((np.round(rest, _DECIMALS) ** 2).tolist()) / df) if df else None, df)

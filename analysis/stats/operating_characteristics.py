"""How often the rule for claims gives each verdict, as the page docs/operating-characteristics.md.

    python -m analysis.stats.operating_characteristics > docs/operating-characteristics.md

Nothing is simulated: given the pooled sd s, the mean of n seeds is normal and independent of s, so that each verdict's
chance is a difference of normal probabilities. These are integrated over the distribution of s, a multiple of chi.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr

from analysis.stats.seeds import PooledSd
from analysis.stats.verdict import (
    HIGHER,
    INCONCLUSIVE,
    NOT_REPRODUCED,
    PRIOR_SDS,
    REPRODUCED,
    limits,
    margin,
    with_prior,
)

CLAIMED = 38.9
TRUE_AP = (38.9, 38.6, 38.4, 37.9)
SDS = (0.09, 0.15, 0.25)
SEEDS = (1, 2, 3, 4, 5)
PLANNED_SEEDS = tuple(range(1, 11))
ARMS = 4  # that measure the sd, as in the ablation
_NODES = 400
_ROUNDING = 1e-6  # of the last digits, which differ between versions of numpy

# ruff: noqa: E501
PAGE = """# How often the rule is right

Written by `python -m analysis.stats.operating_characteristics > docs/operating-characteristics.md`; a test compares this
page with the script. [The report](report.md#verdicts) states the rule.

## A printed AP

The chance of each verdict on a printed {claimed} AP, in percent: REPRODUCED / NOT REPRODUCED / HIGHER THAN CLAIMED /
INCONCLUSIVE, by the true AP on this setup, the true sd between seeds and the number of seeds. The margin is {margin} AP, the
prior sd {prior} AP, and the sd is pooled over {arms} arms.

{values}

- At a true AP of 38.4, just at the margin, REPRODUCED is wrong; its chance is meant to be at most 5%. It is higher where the
  true sd is above the prior sd, which a few seeds cannot show.
- With one seed the sd is not measured, and the prior sd alone decides.
- A second seed on target never makes the verdict less certain: at a true AP of 38.9 the chance of REPRODUCED grows with
  every seed.

## Choosing the number of seeds

The chance, in percent (rounded down), that a claim is decided rightly if the sd is the prior sd: REPRODUCED if it is true,
and NOT REPRODUCED if the true value is lower by twice the margin (1.0 AP). `action=plan` on COCO prints the chances for the
seeds that it plans.

{planned}

A difference of two arms has the noise of both, so it needs more seeds than a value.
"""


@cache
def chances(gap: float, sd: float, n: int, differences: bool = False, looks: int = 1) -> dict[str, float]:
    """The chance of each verdict on AP.

    Args:
        gap: the true value minus the printed one, which is taken as given.
        sd: the true sd between seeds, the same for all ARMS arms.
        n: the number of seeds of each arm.
        differences: whether a difference of two arms is printed, and not the value of one.
        looks: see `analysis.stats.verdict`.
    """
    printed = 2 if differences else 1
    error = sd * math.sqrt(printed / n)
    found = dict.fromkeys((REPRODUCED, NOT_REPRODUCED, HIGHER), 0.0)
    for measured, weight in _pooled_sds(sd, ARMS * (n - 1)):
        confirmed, tolerated = limits(with_prior("AP", measured), printed / n, printed, margin("AP"), looks)
        if confirmed > 0:
            found[REPRODUCED] += weight * float(ndtr((confirmed - gap) / error) - ndtr((-confirmed - gap) / error))
        found[NOT_REPRODUCED] += weight * float(ndtr((-tolerated - gap) / error))
        found[HIGHER] += weight * float(ndtr((gap - tolerated) / error))
    return {**found, INCONCLUSIVE: 1.0 - sum(found.values())}


def _pooled_sds(sd: float, df: int) -> Iterable[tuple[PooledSd, float]]:
    """Nodes and weights of the integral over the pooled sd: Gauss and Legendre's, in the distribution function."""
    if df == 0:
        return [(PooledSd(None, 0), 1.0)]
    at, weights = _legendre()
    measured = sd * np.sqrt(2 * gammaincinv(df / 2, at) / df)
    return [(PooledSd(float(s), df), float(w)) for s, w in zip(measured, weights, strict=True)]


@cache
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at, weights = np.polynomial.legendre.leggauss(_NODES)
    return (at + 1) / 2, weights / 2


def planned_chances() -> dict[str, list[float]]:
    """The chances of right decisions at the prior sd, in percent, for each of PLANNED_SEEDS."""
    short = -2 * margin("AP")
    rows = {}
    for what, differences in (("value", False), ("difference", True)):
        for truth, gap, right in (("true", 0.0, REPRODUCED), ("1.0 AP lower", short, NOT_REPRODUCED)):
            found = [chances(gap, PRIOR_SDS["AP"], n, differences)[right] for n in PLANNED_SEEDS]
            rows[f"{what}, {truth}"] = [math.floor(1000 * each + _ROUNDING) / 10 for each in found]
    return rows


def page() -> str:
    """The page as Markdown."""
    values = [
        [f"{true}", f"{sd}", *(_cell(chances(round(true - CLAIMED, 1), sd, n)) for n in SEEDS)]
        for true in TRUE_AP
        for sd in SDS
    ]
    planned = [[f"a printed {name}", *map(str, row)] for name, row in planned_chances().items()]
    return PAGE.format(
        claimed=CLAIMED,
        margin=margin("AP"),
        prior=PRIOR_SDS["AP"],
        arms=ARMS,
        values=_table(["true AP", "sd", *map(_seeds, SEEDS)], values),
        planned=_table(["seeds per arm", *map(str, PLANNED_SEEDS)], planned),
    )


def _cell(found: dict[str, float]) -> str:
    return " / ".join(f"{100 * found[verdict]:.1f}" for verdict in (REPRODUCED, NOT_REPRODUCED, HIGHER, INCONCLUSIVE))


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n > 1 else ''}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())

"""When runs can decide a number that the paper printed: on COCO val2017, in the published setting, and complete."""

from __future__ import annotations

from analysis.rendering.text import Line, code, join
from analysis.stats import verdict
from analysis.stats.comparison import Comparison, describe_state, is_lost
from dynamic_rcnn.run.manifest import PUBLISHED_BASE, Manifest
from dynamic_rcnn.wording import plural

COCO = "coco"
VAL2017_IMAGES = 5000


def deviation(grid: Manifest, weights: str | None = None) -> Line | None:
    """How a COCO grid deviates from the published setting, or None.

    weights: the first digits of the sha256 of the published weights; None: those that the grid names, if any.
    """
    if grid.base is None or grid.changed is None:
        return "its manifest names no base"
    published = grid.paper.base if grid.paper else PUBLISHED_BASE
    parts: list[Line] = ["base " + code(grid.base)] if grid.base != published else []
    expected = weights or (grid.paper.weights if grid.paper else None)
    if grid.weights is not None and expected is not None and not grid.weights.sha256.startswith(expected):
        digest = code(grid.weights.sha256[:8])
        parts.append("weights " + code(grid.weights.name) + " (sha256 " + digest + "), not " + code(expected))
    if grid.changed:
        parts.append("changed: " + join(", ", map(code, grid.changed)))
    return join(", ", parts) if parts else None


def incomplete(comparison: Comparison, arms: list[str]) -> str | None:
    """Why the runs of `arms` decide nothing, as a verdict with its reason; None if they do.

    They have several settings, some are lost (the others may be a biased selection), they were evaluated on other
    images, or some are not finished.
    """
    mixed = [f"runs of {arm} have {len(comparison.mixed[arm])} settings" for arm in arms if arm in comparison.mixed]
    if mixed:
        return f"{verdict.NOT_COMPARABLE}: {', '.join(mixed)}"
    states = [(arm, state, n) for arm in arms for state, n in comparison.states(arm)]
    lost = [f"{plural('run', n)} of {arm} {state}" for arm, state, n in states if is_lost(state)]
    if lost:
        return lost_text(", ".join(lost))
    images = comparison.averaged.loc[comparison.averaged["arm"].isin(arms), "images"]
    others = [count for count in images if count != VAL2017_IMAGES]
    if others:
        count = f"{others[0]:.0f}" if others[0] == others[0] else "an unknown number of"
        return f"{verdict.NOT_COMPARABLE}: evaluated on {count} images; val2017 has {VAL2017_IMAGES}"
    return unfinished_text(sum(n for _, state, n in states if state != describe_state("done", None)))


def lost_text(lost: str) -> str:
    return f"{verdict.NOT_COMPARABLE}: {lost}; the others may be a biased selection"


def unfinished_text(count: int) -> str | None:
    return f"{verdict.INCONCLUSIVE}: {plural('run', count)} not finished" if count else None


def looks_text(looks: list[int]) -> str:
    """'seeds were added after results of 3 seeds, then 5 seeds, were known'."""
    return f"seeds were added after results of {', then '.join(plural('seed', n) for n in looks)} were known"

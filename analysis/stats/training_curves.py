"""T and beta of an arm's runs, compared with those that are published."""

from __future__ import annotations

from typing import Any

from analysis.stats.comparison import Comparison
from dynamic_rcnn.run import published_curves
from dynamic_rcnn.run.published_curves import Point, Trajectory, Trend


def trajectories(comparison: Comparison, arm: str) -> list[Trajectory]:
    """T at the published iterations, for each of the arm's runs, finished or not."""
    return [published_curves.trajectory(points) for points, _ in _points(comparison, arm)]


def trends(comparison: Comparison, arm: str, method: dict[str, Any]) -> list[list[Trend]]:
    """The trends of Figure 5, for each of the arm's runs, finished or not."""
    found = _points(comparison, arm)
    return [published_curves.trends(points, points[max(points)] if done else None, method) for points, done in found]


def _points(comparison: Comparison, arm: str) -> list[tuple[dict[int, Point], bool]]:
    """T and beta by iteration, and whether the run is finished, for each of the arm's runs."""
    runs = comparison.runs[comparison.runs["arm"] == arm]
    curves = comparison.curves[["path", "iteration", "T", "beta"]].dropna()
    found = []
    for path, state in zip(runs["path"], runs["state"], strict=True):
        own = curves[curves["path"] == path]
        rows = zip(own["iteration"], own["T"], own["beta"], strict=True)
        points = {int(iteration): Point(float(t), float(beta)) for iteration, t, beta in rows}
        found.append((points, state == "done" and bool(points)))
    return found

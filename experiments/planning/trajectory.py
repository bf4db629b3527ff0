"""How T, beta and AP by epoch of a run compare with published values, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_rcnn.run import published_ap
from dynamic_rcnn.run.published_curves import Point, applies, in_figure, read_early, trajectory, trends, trends_text
from dynamic_rcnn.run.spec import TRAIN
from experiments.planning.last_rows import last_row
from experiments.planning.run_state import PlannedRun


def describe_trajectory(run: PlannedRun) -> str | None:
    """How T, beta and AP compare with published values; None if there are none or the run has not begun."""
    place = str(run.spec.dataset["name"]), run.spec.config
    if run.spec.task != TRAIN or run.state == "new" or not run.iteration or not in_figure(*place):
        return None
    early, row = read_early(run.path), last_row(run.path) if run.state in ("done", "stale") else {}
    last = Point(row["T"], row["beta"]) if row else None
    method = run.spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    parts = [trajectory(early).text] if applies(*place) else []
    parts.append(trends_text(trends(early, last, method)))
    if run.iterations and published_ap.applies(*place):
        parts.append(published_ap.read_epochs(run.path, run.iterations, run.metrics.get("AP")).text)
    return "; ".join(filter(None, parts)) or None


def trajectory_lines(plan: Sequence[PlannedRun]) -> list[str]:
    """For each run, a line on whether it follows the published trajectory."""
    found = ((run, describe_trajectory(run)) for run in {run.spec.id: run for run in plan}.values())
    return [f"{run.spec.name}: {text}" for run, text in found if text is not None]

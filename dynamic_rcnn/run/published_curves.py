"""The mechanism as a claim: the IoU threshold T over the first iterations on COCO, against the author's own values.

T is known minutes into a run, hours before any AP: a run that is off here has another mechanism, or other data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import TRAIN_LOG
from dynamic_rcnn.run.published_trends import Point

# Iteration -> T in mmdet on COCO, R-50-FPN 1x (hkzhang95/DynamicRCNN, issue 3). One run, printed to four digits.
PUBLISHED = {100: 0.4208, 200: 0.4913, 300: 0.5167, 400: 0.5330, 500: 0.5379}
SOURCE = "hkzhang95/DynamicRCNN issue 3"
TOLERANCE = 0.03  # declared: the noise of T between seeds and processes is not published
_CONSTANTS = {"label_assignment": True, "iou_topk": 75, "update_iter_interval": 100, "initial_iou": 0.4}


@dataclass(frozen=True)
class Trajectory:
    """T at those of the published iterations that a run has logged."""

    found: dict[int, float]

    @property
    def off(self) -> dict[int, float]:
        return {at: value for at, value in self.found.items() if abs(value - PUBLISHED[at]) > TOLERANCE}

    @property
    def text(self) -> str:
        """One line: whether the run is on the published trajectory, and with what values."""
        if not self.found:
            return "T not known yet at iteration 100"
        values = ", ".join(f"{value:.4f} at {at} ({PUBLISHED[at]:.4f})" for at, value in self.found.items())
        if self.off:
            return f"OFF the published trajectory at {', '.join(map(str, self.off))}: T {values}"
        whole = "on" if len(self.found) == len(PUBLISHED) else "so far on"
        return f"{whole} the published trajectory: T {values}"


def applies(dataset: str, config: dict[str, Any]) -> bool:
    """Whether a run is one of which the values were published: COCO, R-50, dynamic label assignment as published."""
    method = config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    return in_figure(dataset, config) and all(method.get(key) == value for key, value in _CONSTANTS.items())


def in_figure(dataset: str, config: dict[str, Any]) -> bool:
    """Whether the paper's Figure 5 is of such runs: COCO and R-50, boxes alone."""
    model = config["model"]
    return dataset == "coco" and model["backbone"].get("depth") == 50 and "mask_head" not in model.get("roi_head", {})


def read_early(run_dir: Path) -> dict[int, Point]:
    """T and beta by iteration from the first rows of the run's curves; a torn line is left out."""
    found: dict[int, Point] = {}
    try:
        with (run_dir / TRAIN_LOG).open(encoding="utf-8") as file:
            for line in file:
                row = _row(line)
                if row.get("iteration", 0) > max(PUBLISHED):
                    break
                if "iteration" in row and all(isinstance(row.get(name), int | float) for name in ("T", "beta")):
                    found[row["iteration"]] = Point(float(row["T"]), float(row["beta"]))
    except OSError:
        pass
    return found


def trajectory(early: Mapping[int, Point]) -> Trajectory:
    return Trajectory({at: early[at].T for at in PUBLISHED if at in early})


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}

"""The mechanism as claims: T and beta on COCO against published curves.

The author published T over the first iterations, and Figure 5 of the paper shows how T and beta move. T is known
minutes after a run starts, hours before any AP: a run that deviates has a different mechanism or different data.
Values of the figure are read off its curves. They are approximate, and the tolerances are declared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.files import TRAIN_LOG, parse_row
from dynamic_rcnn.run.statistic import MMDET

# Iteration -> T in mmdet on COCO, R-50-FPN 1x (hkzhang95/DynamicRCNN, issue 3). One run, printed to four digits.
PUBLISHED = {100: 0.4208, 200: 0.4913, 300: 0.5167, 400: 0.5330, 500: 0.5379}
SOURCE = "hkzhang95/DynamicRCNN issue 3"
TOLERANCE = 0.03  # declared: the variation of T between seeds and processes is not published
_HEAD, _RPN_NMS = "dynamic_rcnn.DynamicRoIHead", 0.85
_CONSTANTS = {"label_assignment": True, "iou_topk": 75, "update_iter_interval": 100, "initial_iou": 0.4}

FIGURE_SOURCE = "arXiv 2004.06002, Figure 5"
T_TOLERANCE, BETA_TOLERANCE = 0.03, 0.04
_FINAL_T = {64: 0.626, 75: 0.597, 100: 0.55}  # end point of T, by K_I
_FINAL_BETA = {15: 0.24, 10: 0.16, 8: 0.11}  # end point of beta, by K_beta
FINAL_T, FINAL_BETA = _FINAL_T[75], _FINAL_BETA[10]  # with the paper's constants
_EARLY_T, _T_AT_EARLY = 350, 0.50
_EARLY_BETA, _BETA_AT_START = 300, 1.0


@dataclass(frozen=True)
class Point:
    """T and beta in use after an iteration."""

    T: float
    beta: float


@dataclass(frozen=True)
class Trajectory:
    """T at the published iterations that a run has logged: iteration -> T."""

    values: dict[int, float]

    @property
    def off(self) -> dict[int, float]:
        """The values outside the tolerance."""
        return {at: value for at, value in self.values.items() if abs(value - PUBLISHED[at]) > TOLERANCE}

    @property
    def text(self) -> str:
        """One line: whether the run is on the published trajectory, with its values."""
        if not self.values:
            return "T not known yet at iteration 100"
        values = ", ".join(f"{value:.4f} at {at} ({PUBLISHED[at]:.4f})" for at, value in self.values.items())
        if self.off:
            return f"OFF the published trajectory at {', '.join(map(str, self.off))}: T {values}"
        prefix = "on" if len(self.values) == len(PUBLISHED) else "so far on"
        return f"{prefix} the published trajectory: T {values}"


@dataclass(frozen=True)
class Trend:
    """A trend of Figure 5. text: the trend and the run's value. holds: None if it is not known yet."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{self.text}: {'not known yet' if self.holds is None else 'holds' if self.holds else 'DOES NOT HOLD'}"


def applies(dataset: str, config: dict[str, Any]) -> bool:
    """Whether the published values of T apply to a run: COCO, R-50, label assignment with the paper's constants."""
    method = config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    has_constants = all(method.get(key) == value for key, value in _CONSTANTS.items())
    return in_figure(dataset, config) and has_constants and method.get("statistic", MMDET) == MMDET


def in_figure(dataset: str, config: dict[str, Any]) -> bool:
    """Whether Figure 5 applies to a run: COCO, R-50, one stage without masks, and the paper's RPN NMS."""
    model = config["model"]
    head, proposals = model.get("roi_head", {}), model["train_cfg"].get("rpn_proposal", {})
    plain = head.get("type", _HEAD) == _HEAD and not head.get("mask_head")
    nms = proposals.get("nms", {}).get("iou_threshold", _RPN_NMS)
    return dataset == "coco" and model["backbone"].get("depth") == 50 and plain and nms == _RPN_NMS


def read_early(run_dir: Path) -> dict[int, Point]:
    """T and beta by iteration, from the first rows of the run's log. Skips torn lines."""
    points: dict[int, Point] = {}
    with contextlib.suppress(OSError), (run_dir / TRAIN_LOG).open(encoding="utf-8") as file:
        for line in file:
            row = parse_row(line)
            if row.get("iteration", 0) > max(PUBLISHED):
                break
            if "iteration" in row and all(isinstance(row.get(name), int | float) for name in ("T", "beta")):
                points[row["iteration"]] = Point(float(row["T"]), float(row["beta"]))
    return points


def trajectory(early: Mapping[int, Point]) -> Trajectory:
    """The run's T at the published iterations. early: its first iterations, as far as logged."""
    return Trajectory({at: early[at].T for at in PUBLISHED if at in early})


def trends(early: Mapping[int, Point], last: Point | None, method: Mapping[str, Any]) -> list[Trend]:
    """The trends of Figure 5 that apply to a run with these settings of `train_cfg.rcnn.dynamic_rcnn`.

    early: its first iterations, as far as logged. last: its final iteration; None before the run is done.
    """
    found: list[Trend] = []
    if method["label_assignment"]:
        found += _trends_of_t(early.get(_EARLY_T), last, _FINAL_T.get(method["iou_topk"]))
    if method["smooth_l1"]:
        found += _trends_of_beta(early.get(_EARLY_BETA), last, _FINAL_BETA.get(method["beta_topk"]))
    return found


def trends_text(found: Sequence[Trend]) -> str:
    """The trends in one line; "" if there are none."""
    return f"Figure 5: {'; '.join(map(str, found))}" if found else ""


def _trends_of_t(early: Point | None, last: Point | None, final: float | None) -> list[Trend]:
    rises = None if early is None or last is None else last.T > early.T
    found = [Trend(f"T rises slowly after {_EARLY_T}", rises)]
    if final == FINAL_T:
        found.insert(0, _near(f"T at {_EARLY_T}", early.T if early else None, _T_AT_EARLY, T_TOLERANCE))
    return found if final is None else [*found, _near("final T", last.T if last else None, final, T_TOLERANCE)]


def _trends_of_beta(early: Point | None, last: Point | None, final: float | None) -> list[Trend]:
    falls = None if early is None else early.beta < _BETA_AT_START
    found = [Trend(f"beta falls below {_BETA_AT_START} within {_EARLY_BETA} iterations", falls)]
    return found if final is None else [*found, _near("final beta", last.beta if last else None, final, BETA_TOLERANCE)]


def _near(quantity: str, value: float | None, published: float, tolerance: float) -> Trend:
    shown = "" if value is None else f"{value:.3f}, "
    holds = None if value is None else abs(value - published) <= tolerance
    return Trend(f"{quantity} {shown}about {published} in the figure", holds)

"""The trends of the paper's Figure 5 as claims: how T and beta move on COCO, and where they end.

The figure's values were read off its curves, so they are approximate, and the tolerances are declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE = "arXiv 2004.06002, Figure 5"
FINAL_T = {64: 0.626, 75: 0.597, 100: 0.55}  # by K_I
FINAL_BETA = {15: 0.24, 10: 0.16, 8: 0.11}  # by K_beta
T_AT_350, BETA_AT_300 = 0.50, 1.0
T_TOLERANCE, BETA_TOLERANCE = 0.03, 0.04
_EARLY_T, _EARLY_BETA = 350, 300


@dataclass(frozen=True)
class Point:
    """T and beta in force after an iteration."""

    T: float
    beta: float


@dataclass(frozen=True)
class Trend:
    """One trend: what the figure shows and what a run shows. holds: None while the run has not come so far."""

    text: str
    holds: bool | None

    def __str__(self) -> str:
        return f"{self.text}: {'not known yet' if self.holds is None else 'holds' if self.holds else 'DOES NOT HOLD'}"


def trends(early: Mapping[int, Point], last: Point | None, method: Mapping[str, Any]) -> list[Trend]:
    """The figure's trends that concern a run with these settings of `train_cfg.rcnn.dynamic_rcnn`.

    early: its first iterations, as far as logged; last: its final iteration, None before it is done.
    """
    found: list[Trend] = []
    if method["label_assignment"]:
        found += _of_threshold(early.get(_EARLY_T), last, FINAL_T.get(method["iou_topk"]))
    if method["smooth_l1"]:
        found += _of_beta(early.get(_EARLY_BETA), last, FINAL_BETA.get(method["beta_topk"]))
    return found


def _of_threshold(early: Point | None, last: Point | None, final: float | None) -> list[Trend]:
    found = (
        [_near(f"T at {_EARLY_T}", early.T if early else None, T_AT_350, T_TOLERANCE)] if final == FINAL_T[75] else []
    )
    rises = None if early is None or last is None else last.T > early.T
    found.append(Trend(f"T rises slowly after {_EARLY_T}", rises))
    return found if final is None else [*found, _near("final T", last.T if last else None, final, T_TOLERANCE)]


def _of_beta(early: Point | None, last: Point | None, final: float | None) -> list[Trend]:
    falls = None if early is None else early.beta < BETA_AT_300
    found = [Trend(f"beta falls below {BETA_AT_300} within {_EARLY_BETA} iterations", falls)]
    return found if final is None else [*found, _near("final beta", last.beta if last else None, final, BETA_TOLERANCE)]


def _near(what: str, value: float | None, published: float, tolerance: float) -> Trend:
    said = "" if value is None else f"{value:.3f}, "
    holds = None if value is None else abs(value - published) <= tolerance
    return Trend(f"{what} {said}about {published} in the figure", holds)


def in_words(found: Sequence[Trend]) -> str:
    """One line; "" without any trend."""
    return f"Figure 5: {'; '.join(map(str, found))}" if found else ""

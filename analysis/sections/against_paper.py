"""Which measured differences disagree with those that the paper printed, named one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.rendering.model import Block, Heading, Row, table
from analysis.rendering.text import Line, join, link, signed
from analysis.sections.comparability import COCO, deviation
from analysis.sections.difference_tables import estimate_cell
from analysis.stats.comparison import Comparison
from analysis.stats.estimate import Estimate
from analysis.stats.seeds import CONFIDENCE, LEVEL, t_quantile
from dynamic_rcnn.metrics.names import AP_METRICS
from dynamic_rcnn.wording import plural

HEADING = Heading("Disagreement with the paper")
OPPOSITE = "opposite sign"
_ROUNDING = 0.1  # two printed values of one digit


@dataclass(frozen=True)
class Disagreement:
    """A difference from the baseline. printed: the paper's. kind: OPPOSITE, "smaller" or "larger"."""

    arm: str
    metric: str
    printed: float
    measured: Estimate
    kind: str

    @property
    def text(self) -> str:
        """'AP50 of dla (+1.05, paper -0.5)'."""
        return f"{self.metric} of {self.arm} ({signed(self.measured.value)}, paper {signed(self.printed, 1)})"


def compared(comparison: Comparison) -> Iterator[tuple[str, str, float, Estimate]]:
    """Arm, metric, printed and measured difference from the baseline, where the paper shows one.

    Without arms that another grid compares, see `analysis.stats.deciding_grid`.
    """
    found = _all_compared(comparison)
    return (each for each in found if comparison.paper_grid(each[0]).key == comparison.grid.key)


def compared_elsewhere(comparison: Comparison) -> dict[str, list[str]]:
    """Key of another grid -> the arms of this one whose differences it compares with the paper's."""
    arms = dict.fromkeys(arm for arm, *_ in _all_compared(comparison))
    found: dict[str, list[str]] = {}
    for arm in arms:
        if (key := comparison.paper_grid(arm).key) != comparison.grid.key:
            found.setdefault(key, []).append(arm)
    return found


def _all_compared(comparison: Comparison) -> Iterator[tuple[str, str, float, Estimate]]:
    paper = comparison.grid.paper
    for arm in comparison.others if paper else ():
        for metric in AP_METRICS:
            theirs, reference = (
                paper.rows.get(each, {}).get(metric) if paper else None
                for each in (arm, comparison.grid.baseline_of(arm))
            )
            measured = comparison.difference(metric, arm)
            if theirs is not None and reference is not None and measured is not None and measured.error is not None:
                yield arm, metric, round(theirs - reference, 6), measured


def disagreements(comparison: Comparison) -> list[Disagreement]:
    """The differences with another sign than the paper's; in the published setting on COCO, also with another size."""
    found = []
    for arm, metric, printed, measured in compared(comparison):
        if measured.is_significant and printed * measured.value < 0:
            found.append(Disagreement(arm, metric, printed, measured, OPPOSITE))
        elif _compares_size(comparison) and _is_beyond_one_more_pair(measured, printed):
            kind = "larger" if abs(measured.value) > abs(printed) else "smaller"
            found.append(Disagreement(arm, metric, printed, measured, kind))
    return found


def _compares_size(comparison: Comparison) -> bool:
    return comparison.grid.dataset == COCO and deviation(comparison.grid) is None


def _is_beyond_one_more_pair(measured: Estimate, printed: float) -> bool:
    """Whether a difference of two single runs with the same noise would rarely be as printed."""
    assert measured.error is not None and measured.noise.sd is not None
    spread = math.sqrt(measured.error**2 + 2 * measured.noise.sd**2)
    return abs(measured.value - printed) > t_quantile(CONFIDENCE, measured.df) * spread + _ROUNDING


def blocks(comparison: Comparison) -> list[Block]:
    """The part of the section that names them; empty if nothing can be compared."""
    total = len(list(compared(comparison)))
    elsewhere = _elsewhere(comparison)
    if not total:
        return [HEADING, elsewhere] if elsewhere else []
    rule = "significant in the table of differences above, and of the opposite sign in the paper"
    if _compares_size(comparison):
        rule += ", or of another size than two more single runs would show in 95 of 100 cases"
    else:
        rule += "; the setting differs, so the direction alone is compared"
    text = f"Of {plural('difference', total)} from the baseline that the paper shows, those that disagree ({rule})"
    more = [elsewhere] if elsewhere else []
    found = disagreements(comparison)
    if not found:
        return [HEADING, text + ": none.", *more]
    header = ["arm", "metric", "paper", f"measured, {LEVEL} interval", "disagreement"]
    rows = [_row(each, comparison) for each in found]
    return [HEADING, text + ":", table(header, rows, text_columns=2), *more]


def _elsewhere(comparison: Comparison) -> Line:
    """Which grids compare other arms of this one; empty if none does."""
    found = compared_elsewhere(comparison)
    parts = [f"{', '.join(arms)}: see " + link(key, key) for key, arms in found.items()]
    return join("; ", parts) + " (the same runs, in the grid with the fewest arms)." if parts else ""


def _row(each: Disagreement, comparison: Comparison) -> Row:
    runs = comparison.paths(each.arm, comparison.grid.baseline_of(each.arm))
    cell = estimate_cell(each.measured, runs)
    return [each.arm, each.metric, signed(each.printed, 1), cell, each.kind]

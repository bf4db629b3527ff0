"""The paper's tables, each reproduced by a grid: which of them the records have, and the commands for the others."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.model import Row, Table, table
from analysis.rendering.text import Line, code, strong
from analysis.sections.claims import coco_command
from analysis.sections.comparability import COCO, deviation
from analysis.sections.timing_section import why_not_comparable
from analysis.stats.comparison import Comparison
from analysis.stats.timing import TimingComparison
from analysis.stats.verdict import NOT_COMPARABLE, NOT_RUN
from dynamic_rcnn.wording import plural

TABLES = {  # grid -> what it reproduces
    "ablation": "Table 2: the components",
    "iou_topk": "Table 3: K_I",
    "interval": "Table 4: C",
    "beta": "Table 5: fixed and dynamic beta",
    "backbones": "Table 1: backbones and schedules",
    "speed": "Table 6: inference speed",
    "mask": "Table 7: Mask R-CNN",
    "released": "released weights, evaluated again",
    "controls": "not in the paper: fixed T and beta, L1, RPN NMS, replay",
}


def paper_tables(comparisons: Sequence[Comparison | TimingComparison]) -> Table:
    """One row per table: how much of it has been run, and the command for it."""
    rows: list[Row] = []
    for grid, what in TABLES.items():
        options = " weights=FILE" if grid == "released" else ""
        rows.append([what, code(grid), _progress(grid, comparisons), code(coco_command(grid) + options)])
    return table(["table (COCO)", "grid", "verdict", "command"], rows, text_columns=4)


def _progress(grid: str, comparisons: Sequence[Comparison | TimingComparison]) -> Line:
    own = [each for each in comparisons if each.grid.dataset == COCO and each.grid.name == grid]
    published = [each for each in own if _is_comparable(each)]
    if not published:
        others = f"; {plural('grid', len(own))} with another setting or device, {NOT_COMPARABLE}" if own else ""
        return strong(NOT_RUN) + others
    done, asked = sum(each.n_done for each in published), sum(len(each.runs) for each in published)
    verdicts = "; its section has the verdicts on the printed values" if any(f.grid.paper for f in published) else ""
    return f"{done} of {plural('run', asked)} done{verdicts}"


def _is_comparable(each: Comparison | TimingComparison) -> bool:
    return (why_not_comparable(each) if isinstance(each, TimingComparison) else deviation(each.grid)) is None

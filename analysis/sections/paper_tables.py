"""The paper's tables, each a grid: which of them the records hold, and what would run the others."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.rendering.markup import code, one_of
from analysis.rendering.model import Table, table
from analysis.sections.claims import COCO, coco_command, deviation
from analysis.stats.comparison import Comparison
from analysis.stats.timing import Speed
from analysis.stats.verdict import NOT_RUN

# grid -> what of the paper it reproduces
TABLES = {
    "ablation": "Table 2: the components",
    "iou_topk": "Table 3: K_I",
    "interval": "Table 4: C",
    "beta": "Table 5: fixed and dynamic beta",
    "backbones": "Table 1: backbones and schedules",
    "speed": "Table 6: inference speed",
    "mask": "Table 7: Mask R-CNN",
    "released": "the released weights, tested again",
    "controls": "not in the paper: fixed T and beta, L1, RPN NMS, replay",
}


def paper_tables(comparisons: Sequence[Comparison | Speed]) -> Table:
    """A row a table: its verdict, or where it stands, and the command for it."""
    rows = []
    for grid, what in TABLES.items():
        more = " weights=FILE" if grid == "released" else ""
        rows.append([what, code(grid), _state(grid, comparisons), f"`{coco_command(grid)}{more}`"])
    return table(["table, COCO", "grid", "verdict", "how to run it"], rows, text_columns=4)


def _state(grid: str, comparisons: Sequence[Comparison | Speed]) -> str:
    own = [found for found in comparisons if found.grid.dataset == COCO and found.grid.name == grid]
    published = [found for found in own if _is_comparable(found)]
    if not published:
        others = f"; {one_of('grid', len(own))} of another setting or device, NOT COMPARABLE" if own else ""
        return f"**{NOT_RUN}**{others}"
    done, asked = (
        sum(counts) for counts in zip(*((found.n_done, len(found.runs)) for found in published), strict=True)
    )
    said = "; the verdicts on the printed values are in its section" if any(f.grid.paper for f in published) else ""
    return f"{done} of {one_of('run', asked)} done{said}"


def _is_comparable(found: Comparison | Speed) -> bool:
    return (found.reason if isinstance(found, Speed) else deviation(found.grid)) is None

"""The figures of the report as a run of their own, `report`, because they show all runs."""

from __future__ import annotations

import hashlib
from functools import partial

from analysis.exporting.exported_run import ExportedRun, Point
from analysis.reading.run_table import RunTable
from analysis.rendering.model import Page
from dynamic_rcnn.run.spec import digest


def export_figures(records: RunTable, page: Page) -> ExportedRun:
    """Prepare the figures and pictures of `page`, the report on `records`. They are drawn when they are written."""
    from analysis.rendering.plots import draw_png

    grids = [grid.key for grid in records.grids]
    own, done = f"report-{digest(grids)}", int((records.runs["state"] == "done").sum())
    shown = {figure.name: figure.identifier for figure in page.figures}
    shown |= {picture.name: hashlib.sha256(picture.png).hexdigest() for picture in page.pictures}
    drawings = {figure.name: partial(draw_png, figure) for figure in page.figures}
    drawings |= {picture.name: partial(bytes, picture.png) for picture in page.pictures}
    tags = {"run": own, "dataset": ", ".join(sorted({grid.dataset for grid in records.grids})), "arm": "report"}
    tags |= {"grids": ", ".join(grid.name for grid in records.grids), "state": "done"}
    figures = {f"figures/{name.rpartition('.')[0]}": drawing for name, drawing in drawings.items()}
    return ExportedRun(own, "report", {"figures": shown}, tags, [Point(done, 0.0, {"runs_done": done})], figures)

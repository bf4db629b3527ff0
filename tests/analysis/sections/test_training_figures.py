"""T, beta, positives and proposals over training: the panels, and published values beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.reading.run_table import collect
from analysis.rendering.model import Band
from analysis.sections.curves import Runs
from analysis.sections.training_figures import FIGURE_5, ISSUE, state_figure
from analysis.stats.comparison import Comparison
from dynamic_rcnn.run.manifest import PUBLISHED_BASE
from dynamic_rcnn.run.train_log import LOG_COLUMNS
from tests.analysis.synthetic import ablation

END_T, END_BETA = 0.597, 0.16  # Figure 5 with K_I 75 and K_beta 10
T_AT = {100: 0.4208, 200: 0.4913, 300: 0.5167, 400: 0.5330, 500: 0.5379}


ITERATIONS = [50.0, 1000.0, 90_000.0]
VALUES = [0.5, 0.6, 0.7]
RUNS: Runs = {"both": [dict.fromkeys(LOG_COLUMNS, VALUES) | {"iteration": ITERATIONS}]}


@pytest.mark.parametrize(
    ("dataset", "base", "is_published"),
    [
        ("shapes", PUBLISHED_BASE, False),
        ("coco", PUBLISHED_BASE, True),
        ("coco", "faster_rcnn_r101_fpn_1x", False),
    ],
)
def test_published_values_are_shown_faintly(tmp_path: Path, dataset: str, base: str, is_published: bool) -> None:
    """The end points are lines over all iterations; T after 100 to 500 iterations is of the published setting alone."""
    ablation(tmp_path)
    records = collect(tmp_path)
    comparison = Comparison(records, records.grids[0])
    comparison.grid = comparison.grid.model_copy(update={"dataset": dataset, "base": base, "changed": []})
    figure = state_figure(RUNS, comparison, "what")
    columns = ["T", "beta", "positives", "proposals_50", "proposals_60", "proposals_70"]
    assert [panel.name for panel in figure.panels][:6] == columns
    t, beta, *others = figure.panels
    end = t.reference[FIGURE_5]
    assert (list(end.x), list(end.middle)) == ([50, 90_000], [END_T, END_T])
    early = t.reference.get(ISSUE)
    assert (dict(zip(early.x, early.middle, strict=True)) if early else None) == (T_AT if is_published else None)
    assert beta.reference[FIGURE_5].middle == [END_BETA, END_BETA] and not any(panel.reference for panel in others)
    assert t.curves["both"] == Band(ITERATIONS, *[VALUES] * 3)
    assert [panel.name for panel in figure.panels][6:] == ["T_stage2", "beta_stage2", "T_stage3", "beta_stage3"]
    assert ("other settings need not reach them" in str(figure.caption)) != is_published

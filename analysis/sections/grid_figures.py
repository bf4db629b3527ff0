"""The figures of a grid's section: their panels and captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analysis.reading.run_table import RunTable
from analysis.rendering.model import INTERVALS, Figure, Panel
from analysis.sections import curves
from analysis.sections.forest import forest_figure
from analysis.sections.interaction import interaction_figure
from analysis.sections.tables import whose_baseline
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL
from dynamic_rcnn.run.train_log import LATER_STAGES, stage_column

LOSS_PANELS = {  # title -> column of the training log, label of the y axis
    "total loss": ("loss", "loss"),
    "RoI head: classification": ("loss_cls", "cross entropy"),
    "RoI head: box regression": ("loss_bbox", "SmoothL1, weighted"),
    "RPN: objectness": ("loss_rpn_cls", "cross entropy"),
    "RPN: box regression": ("loss_rpn_bbox", "loss, weighted"),
}
COUNT_PANELS = {
    "IoU of at least 0.5": ("proposals_50", "proposals per image"),
    "IoU of at least 0.6": ("proposals_60", "proposals per image"),
    "IoU of at least 0.7": ("proposals_70", "proposals per image"),
    "positives sampled": ("positives", "proposals per image"),
}
DISTRIBUTIONS = {  # kind of histogram -> title, labels of the axes
    "iou": ("proposals", "IoU with the best ground truth", "share of the proposals"),
    "target": ("positives", "|dx| and |dy| of the regression targets", "share of the targets"),
}
BAND = "Line: mean over seeds; band: from the lowest to the highest seed."
MAX_ARMS = 8  # a figure has as many colours


def figures(records: RunTable, comparison: Comparison) -> list[Figure]:
    """The figures of the section; none while no run has finished."""
    if not comparison.n_done:
        return []
    arms, what = shown_arms(comparison), _what(comparison)
    runs = curves.training_runs(records, comparison, arms)
    key = comparison.grid.key
    differences = [forest_figure(comparison, arms), interaction_figure(comparison, arms)]
    of_ap = [*filter(None, differences), _ap_figure(comparison, arms, key, what)]
    if not any(runs.values()):
        return of_ap
    loss_note = (
        " A smaller beta makes SmoothL1 larger for the same error, and T decides which proposals are counted: box "
        "regression losses of different arms are on different scales."
    )
    return [
        *of_ap,
        _state_figure(runs, key, what),
        *_distribution_figures(records, comparison, arms, key, what),
        _training_figure(f"{key}-positives.svg", "Positives over training", COUNT_PANELS, runs, what, 2),
        _training_figure(f"{key}-training.svg", "Training curves", LOSS_PANELS, runs, what, 3, loss_note),
    ]


def shown_arms(comparison: Comparison) -> list[str]:
    """The arms in the figures: all, or of many the baseline and those that the grid's contrasts name."""
    grid = comparison.grid
    if len(grid.arms) <= MAX_ARMS:
        return list(grid.arms)
    named = {grid.baseline, *(arm for pair in grid.contrasts for arm in pair)}
    return [arm for arm in grid.arms if arm in named][:MAX_ARMS] if len(named) > 1 else list(grid.arms)[:MAX_ARMS]


def _what(comparison: Comparison) -> str:
    shown, total = len(shown_arms(comparison)), len(comparison.grid.arms)
    which = "the baseline and the arms of the contrasts" if comparison.grid.contrasts else "the first"
    left_out = f"; {shown} of {total} arms: {which}" if shown < total else ""
    return f"{comparison.grid.dataset}, {comparison.seeds_text()}{left_out}"


def _ap_figure(comparison: Comparison, arms: list[str], key: str, what: str) -> Figure:
    grid = comparison.grid
    against = "its baseline" if grid.baselines else grid.baseline
    axis, ticks = "IoU threshold", (0.5, 0.6, 0.7, 0.8, 0.9)
    differences = curves.difference_by_iou(comparison, arms)
    left = Panel("AP", "AP", axis, "AP (%)", curves.ap_by_iou(comparison, arms), INTERVALS, ticks=ticks)
    right = Panel("difference", f"arm minus {against}", axis, "difference in AP (points)", differences, INTERVALS)
    right = replace(right, dodge=0.008, starts_at_zero=False, ticks=ticks, marks_zero=True)
    caption = (
        f"{what}. Left: mean over seeds. Right: difference from {whose_baseline(grid)} in points of AP, with the arms "
        f"side by side at each threshold. Error bars: {LEVEL} intervals as in the tables, not corrected for multiple "
        "comparisons; none with one seed."
    )
    alt = "Two plots over the IoU threshold: AP of each arm, and its difference from the baseline."
    title, panels = "AP against the IoU threshold", [left, right]
    return Figure(f"{key}-ap-by-iou.svg", title, caption, alt, arms, panels, 2, 4.6)


def _state_figure(runs: curves.Runs, key: str, what: str) -> Figure:
    """One row of panels; of Cascade heads one row per stage."""
    axis, title = "iteration", "IoU threshold T of label assignment"
    stages = [1, *(stage for stage in LATER_STAGES if _has_values(runs, stage_column("T", stage)))]
    panels = []
    for stage in stages:
        names = [stage_column(name, stage) for name in ("T", "beta")]
        thresholds, betas = (curves.training_curves(runs, column) for column in names)
        where = f"stage {stage}: " if len(stages) > 1 else ""
        panels += [
            Panel(names[0], f"{where}{title}", axis, "T (IoU)", thresholds, starts_at_zero=False),
            Panel(names[1], f"{where}beta of SmoothL1", axis, "beta (of the normalised targets)", betas),
        ]
    height = 4.4 if len(stages) == 1 else _height(len(stages))
    caption = f"{what}. {BAND} Not smoothed."
    title, alt = "T and beta over training", "T and beta of each arm over the iterations."
    return Figure(f"{key}-t-and-beta.svg", title, caption, alt, list(runs), panels, 2, height)


def _has_values(runs: curves.Runs, column: str) -> bool:
    return any(band.x for band in curves.training_curves(runs, column).values())


def _distribution_figures(
    records: RunTable, comparison: Comparison, arms: list[str], key: str, what: str
) -> list[Figure]:
    """One figure, of the first and the last tenth of training; none if the runs have no histograms."""
    panels = []
    for kind, (title, xlabel, ylabel) in DISTRIBUTIONS.items():
        for when in ("early", "late"):
            shares = curves.distributions(records, comparison, arms, kind, when)
            panels.append(Panel(f"{title}, {when}", f"{title}, {when}", xlabel, ylabel, shares))
    if not all(panel.curves for panel in panels):
        return []
    caption = (
        f"{what}. Early and late: the first and the last tenth of the logged iterations. Top: IoU of the proposals. "
        "Bottom: regression targets of the sampled positives, divided by the box coder's stds; the last bin includes "
        f"all larger values. Both include the ground-truth boxes (IoU 1, target 0). {BAND}"
    )
    title = "Proposals and regression targets, early and late"
    alt = "Histograms of each arm at the start and at the end of training: IoU of the proposals, regression targets."
    return [Figure(f"{key}-distributions.svg", title, caption, alt, arms, panels, 2, _height(2))]


def _training_figure(
    name: str,
    title: str,
    columns: Mapping[str, tuple[str, str]],
    runs: curves.Runs,
    what: str,
    across: int,
    note: str = "",
) -> Figure:
    panels = [
        Panel(each, each, "iteration", label, curves.training_curves(runs, column, smooth=True))
        for each, (column, label) in columns.items()
    ]
    smoothed = f"Each run is smoothed by a running mean over {100 * curves.SMOOTHING:.0f}% of its logged points."
    alt = f"Each arm over the iterations: {', '.join(columns)}."
    caption, height = f"{what}. {smoothed} {BAND}{note}", _height(-(-len(panels) // across))
    return Figure(name, title, caption, alt, list(runs), panels, across, height)


def _height(rows: int) -> float:
    return 0.4 + 3.0 * rows

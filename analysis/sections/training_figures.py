"""The figures of training: what moves T and beta and what they change, proposals and targets, and losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Band, Curves, Figure, Panel
from analysis.sections import curves
from analysis.sections.comparability import COCO, deviation
from analysis.stats.comparison import Comparison
from dynamic_rcnn.run.published_curves import FINAL_BETA, FINAL_T, PUBLISHED, SOURCE
from dynamic_rcnn.run.train_log import LATER_STAGES, PROPOSAL_IOUS, stage_column

AXIS = "iteration"
STATES = {  # column of the training log -> title, label of the y axis: none, the title says it
    "T": ("IoU threshold T", ""),
    "beta": ("beta of SmoothL1", ""),
}
LOSS_PANELS = {  # column of the training log -> title, label of the y axis
    "loss": ("total loss", "loss"),
    "loss_cls": ("RoI head: classification", "cross entropy"),
    "loss_bbox": ("RoI head: box regression", "SmoothL1, weighted"),
    "loss_rpn_cls": ("RPN: objectness", "cross entropy"),
    "loss_rpn_bbox": ("RPN: box regression", "loss, weighted"),
}
COUNT_PANELS = {
    "positives": ("positives sampled", "per image"),
    **{column: (f"proposals, IoU of at least {iou}", "per image") for column, iou in PROPOSAL_IOUS.items()},
}
DISTRIBUTIONS = {  # kind of histogram -> title, labels of the axes
    "iou": ("proposals", "IoU with the best ground truth", "share of the proposals"),
    "target": ("positives", "|dx| and |dy| of the regression targets", "share of the targets"),
}
FIGURE_5, ISSUE = "Figure 5 on COCO, end of training", "the author's run on COCO"


def state_figure(runs: curves.Runs, comparison: Comparison, what: str) -> Figure:
    """T and beta, the positives that are sampled and the proposals by IoU, with published values on COCO.

    Of Cascade heads, T and beta of the later stages follow.
    """
    grid = comparison.grid
    is_published = grid.dataset == COCO and deviation(grid) is None
    later = [stage for stage in LATER_STAGES if _has_values(runs, stage_column("T", stage))]
    panels = [
        *_state_panels(runs, 1, is_published, bool(later)),
        *_panels(runs, COUNT_PANELS),
        *(panel for stage in later for panel in _state_panels(runs, stage, is_published, True)),
    ]
    caption = (
        f"{what}. {curves.BAND} Counts are smoothed by a {_smoothing()}. Dotted: the end points of Figure 5 of the "
        "paper (COCO, R-50, K_I 75, K_beta 10)"
        + (f", and T at iterations 100 to 500 ({SOURCE})." if is_published else "; other settings need not reach them.")
    )
    title = "T, beta, positives and proposals over training"
    alt = f"Each arm over the iterations: {', '.join(panel.title for panel in panels)}."
    name = f"{comparison.grid.key}-training-state.svg"
    return Figure(name, title, caption, alt, list(runs), panels, 3, curves.height(-(-len(panels) // 3)))


def _state_panels(runs: curves.Runs, stage: int, is_published: bool, is_cascade: bool) -> Iterable[Panel]:
    """T and beta of one stage of the head; the first has the published values."""
    for name, (title, label) in STATES.items():
        column = stage_column(name, stage)
        found = curves.training_curves(runs, column)
        published = _published(name, found, is_published) if stage == 1 else {}
        where = f"stage {stage}: " if is_cascade else ""
        yield Panel(column, where + title, AXIS, label, found, starts_at_zero=False, reference=published)


def _published(name: str, found: Curves, is_published: bool) -> Curves:
    """The paper's end point as a line over all iterations; in the published setting, also T at its iterations."""
    iterations = [x for band in found.values() for x in band.x]
    if not iterations:
        return {}
    end = {"T": FINAL_T, "beta": FINAL_BETA}[name]
    curves = {FIGURE_5: {min(iterations): end, max(iterations): end}}
    if name == "T" and is_published:
        curves[ISSUE] = {float(x): y for x, y in PUBLISHED.items() if x <= max(iterations)}
    return {title: Band(list(points), *[list(points.values())] * 3) for title, points in curves.items()}


def loss_figure(runs: curves.Runs, comparison: Comparison, what: str) -> Figure:
    panels = list(_panels(runs, LOSS_PANELS))
    caption = (
        f"{what}. Each run is smoothed by a {_smoothing()}. {curves.BAND} A smaller beta makes SmoothL1 larger for the "
        "same error, and T decides which proposals are counted: box regression losses of different arms are on "
        "different scales."
    )
    alt = f"Each arm over the iterations: {', '.join(panel.title for panel in panels)}."
    name = f"{comparison.grid.key}-training.svg"
    return Figure(name, "Losses over training", caption, alt, list(runs), panels, 3, curves.height(2))


def _panels(runs: curves.Runs, columns: Mapping[str, tuple[str, str]]) -> Iterable[Panel]:
    for column, (title, label) in columns.items():
        yield Panel(column, title, AXIS, label, curves.training_curves(runs, column, smooth=True))


def _smoothing() -> str:
    return f"running mean over {100 * curves.SMOOTHING:.0f}% of its logged points"


def _has_values(runs: curves.Runs, column: str) -> bool:
    return any(band.x for band in curves.training_curves(runs, column).values())


def distribution_figure(records: RunTable, comparison: Comparison, arms: list[str], what: str) -> Figure | None:
    """Of the first and the last tenth of training; None if the runs have no histograms."""
    panels = []
    for kind, (title, xlabel, ylabel) in DISTRIBUTIONS.items():
        for when in ("early", "late"):
            shares = curves.distributions(records, comparison, arms, kind, when)
            panels.append(Panel(f"{title}, {when}", f"{title}, {when}", xlabel, ylabel, shares))
    if not all(panel.curves for panel in panels):
        return None
    caption = (
        f"{what}. Early and late: the first and the last tenth of the logged iterations. Top: IoU of the proposals. "
        "Bottom: regression targets of the sampled positives, divided by the box coder's stds; the last bin includes "
        f"all larger values. Both include the ground-truth boxes (IoU 1, target 0). {curves.BAND}"
    )
    title = "Proposals and regression targets, early and late"
    alt = "Histograms of each arm at the start and at the end of training: IoU of the proposals, regression targets."
    return Figure(f"{comparison.grid.key}-distributions.svg", title, caption, alt, arms, panels, 2, curves.height(2))

"""The figures of training: what moves T and beta and what they change, proposals and targets, and losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Band, Curves, Figure, Panel
from analysis.sections import curves
from analysis.stats.comparison import Comparison
from dynamic_rcnn.run.published_curves import FINAL_BETA, FINAL_T, PUBLISHED
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
BAND = "Line: mean over seeds; band: from the lowest to the highest seed."
PAPER = "the paper on COCO"
COCO = "coco"


def sheet(runs: curves.Runs, comparison: Comparison, what: str) -> Figure:
    """T and beta, the positives that are sampled and the proposals by IoU, as in Figures 1 to 3 and 5 of the paper.

    Of Cascade heads, T and beta of the later stages follow.
    """
    dataset = comparison.grid.dataset
    later = [stage for stage in LATER_STAGES if _has_values(runs, stage_column("T", stage))]
    panels = [
        *_state_panels(runs, 1, dataset),
        *_panels(runs, COUNT_PANELS),
        *(panel for stage in later for panel in _state_panels(runs, stage, dataset)),
    ]
    reference = "T after 100 to 500 iterations and both at the end" if dataset == COCO else "at the end"
    caption = (
        f"{what}. {BAND} T and beta are not smoothed; counts are, by a {_smoothing()}. Dotted: {PAPER} {reference} "
        "(R-50, K_I 75, K_beta 10; read off its Figure 5)"
        + ("." if dataset == COCO else f", which need not be reached on {dataset}.")
    )
    title = "T, beta, positives and proposals over training"
    alt = f"Each arm over the iterations: {', '.join(panel.title for panel in panels)}."
    name = f"{comparison.grid.key}-training-state.svg"
    return Figure(name, title, caption, alt, list(runs), panels, 3, height(-(-len(panels) // 3)))


def _state_panels(runs: curves.Runs, stage: int, dataset: str) -> Iterable[Panel]:
    """T and beta of one stage of the head; the first has the paper's values."""
    for name, (title, label) in STATES.items():
        column = stage_column(name, stage)
        found = curves.training_curves(runs, column)
        published = _published(name, found, dataset) if stage == 1 else {}
        where = f"stage {stage}: " if stage > 1 else ""
        yield Panel(column, where + title, AXIS, label, found, starts_at_zero=False, reference=published)


def _published(name: str, found: Curves, dataset: str) -> Curves:
    """The paper's end point over all iterations; on COCO, T at the published iterations before it."""
    iterations = [x for band in found.values() for x in band.x]
    if not iterations:
        return {}
    end, last = {"T": FINAL_T, "beta": FINAL_BETA}[name], max(iterations)
    early = {float(x): y for x, y in PUBLISHED.items() if x < last} if name == "T" and dataset == COCO else {}
    points = (early or {min(iterations): end}) | {last: end}
    return {PAPER: Band(list(points), *[list(points.values())] * 3)}


def loss_figure(runs: curves.Runs, comparison: Comparison, what: str) -> Figure:
    panels = list(_panels(runs, LOSS_PANELS))
    caption = (
        f"{what}. Each run is smoothed by a {_smoothing()}. {BAND} A smaller beta makes SmoothL1 larger for the same "
        "error, and T decides which proposals are counted: box regression losses of different arms are on different "
        "scales."
    )
    alt = f"Each arm over the iterations: {', '.join(panel.title for panel in panels)}."
    name = f"{comparison.grid.key}-training.svg"
    return Figure(name, "Losses over training", caption, alt, list(runs), panels, 3, height(2))


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
        f"all larger values. Both include the ground-truth boxes (IoU 1, target 0). {BAND}"
    )
    title = "Proposals and regression targets, early and late"
    alt = "Histograms of each arm at the start and at the end of training: IoU of the proposals, regression targets."
    return Figure(f"{comparison.grid.key}-distributions.svg", title, caption, alt, arms, panels, 2, height(2))


def height(rows: int) -> float:
    """Inches of a figure with so many rows of panels."""
    return 0.4 + 3.0 * rows

"""The figures of a grid's section: which there are, what they show, and their captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.reading.records import Records
from analysis.rendering.markup import escape
from analysis.rendering.model import FigureFile
from analysis.sections import curves
from analysis.sections.curves import Curves
from analysis.sections.difference_tables import whose_baseline
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import LEVEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS_PANELS = {
    "total loss": ("loss", "loss"),
    "RoI head: classification": ("loss_cls", "cross entropy"),
    "RoI head: box regression": ("loss_bbox", "SmoothL1, weighted"),
    "RPN: objectness": ("loss_rpn_cls", "cross entropy"),
    "RPN: box regression": ("loss_rpn_bbox", "loss, weighted"),
}
COUNT_PANELS = {
    "IoU of at least 0.5": ("proposals_50", "proposals an image"),
    "IoU of at least 0.6": ("proposals_60", "proposals an image"),
    "IoU of at least 0.7": ("proposals_70", "proposals an image"),
    "positives sampled": ("positives", "proposals an image"),
}
MAX_ARMS = 8  # a figure has as many colours


def figures(records: Records, comparison: Comparison) -> list[FigureFile]:
    """The section's figures; none while no run has finished."""
    if not comparison.n_done:
        return []
    arms, what = shown_arms(comparison), _what(comparison)
    runs = curves.training_runs(records, comparison, arms)
    key = comparison.grid.key
    found = [_ap_figure(comparison, arms, key, what)]
    if not any(runs.values()):
        return found
    found.append(_state_figure({c: curves.training_curves(runs, c) for c in ("T", "beta")}, key, what))
    found += _distribution_figures(records, comparison, arms, key, what)
    kinds = (("positives", "Positives over training", COUNT_PANELS), ("training", "Training curves", LOSS_PANELS))
    for name, title, panels in kinds:
        data = {panel: curves.training_curves(runs, column, smooth=True) for panel, (column, _) in panels.items()}
        found.append(_panel_figure(f"{key}-{name}.svg", title, panels, data, what))
    return found


def shown_arms(comparison: Comparison) -> list[str]:
    """The arms that figures show: all, or of many the baseline and those that the grid's contrasts name."""
    grid = comparison.grid
    if len(grid.arms) <= MAX_ARMS:
        return list(grid.arms)
    named = {grid.baseline, *(arm for pair in grid.contrasts for arm in pair)}
    return [arm for arm in grid.arms if arm in named][:MAX_ARMS] if len(named) > 1 else list(grid.arms)[:MAX_ARMS]


def _what(comparison: Comparison) -> str:
    shown, all_arms = len(shown_arms(comparison)), len(comparison.grid.arms)
    which = "the baseline and those of the contrasts" if comparison.grid.contrasts else "the first"
    left_out = f"; {shown} of {all_arms} arms: {which}" if shown < all_arms else ""
    return escape(f"{comparison.grid.dataset}, {comparison.seeds_text()}{left_out}")


def _ap_figure(comparison: Comparison, arms: list[str], key: str, what: str) -> FigureFile:
    both = (("AP", curves.ap_by_iou(comparison)), ("difference", curves.difference_by_iou(comparison)))
    data = {panel: {arm: band for arm, band in bands.items() if arm in arms} for panel, bands in both}

    against = "its baseline" if comparison.grid.baselines else comparison.grid.baseline

    def draw() -> Figure:
        from analysis.rendering.plots import draw_ap_by_iou

        return draw_ap_by_iou(data["AP"], data["difference"], against)

    caption = (
        f"{what}. Left: mean over seeds. Right: difference from {whose_baseline(comparison.grid)} in points of AP. "
        f"Error bars: the {LEVEL} t interval on the pooled sd of the arms (seed noise only; not corrected for several "
        "comparisons); right, the arms are set side by side at each threshold. "
        "Without error bars: one seed."
    )
    return FigureFile(f"{key}-ap-by-iou.svg", "AP against the IoU threshold", caption, data, draw)


def _state_figure(data: Mapping[str, Curves], key: str, what: str) -> FigureFile:
    def draw() -> Figure:
        from analysis.rendering.plots import draw_state

        return draw_state(data["T"], data["beta"])

    caption = f"{what}. Line: mean over seeds; band: from the lowest to the highest seed. Not smoothed."
    return FigureFile(f"{key}-t-and-beta.svg", "T and beta over training", caption, data, draw)


def _distribution_figures(
    records: Records, comparison: Comparison, arms: list[str], key: str, what: str
) -> list[FigureFile]:
    """One figure, of what the first and the last tenth of training saw; none of runs that counted nothing."""
    labels = {"iou": ("IoU with the best ground truth", "share of the proposals")}
    labels["target"] = ("|dx| and |dy| of the regression targets", "share of the targets")
    titles = {"iou": "proposals", "target": "positives"}
    panels = {
        f"{titles[kind]}, {when}": (*labels[kind], curves.distributions(records, comparison, arms, kind, when))
        for kind in labels
        for when in ("early", "late")
    }
    data = {title: found for title, (_, _, found) in panels.items()}
    if not all(data.values()):
        return []

    def draw() -> Figure:
        from analysis.rendering.plots import draw_panels

        return draw_panels(panels, 2)

    caption = (
        f"{what}. Early and late: the first and the last tenth of the logged iterations. Above: the proposals by their "
        "IoU; below: the sampled positives' targets, divided by the coder's stds, the last bin for all above. Ground "
        "truth is among both (IoU 1, target 0). Line: mean over seeds; band: from the lowest to the highest seed."
    )
    name = f"{key}-distributions.svg"
    return [FigureFile(name, "Proposals and regression targets, early and late", caption, data, draw)]


def _panel_figure(
    name: str, title: str, panels: Mapping[str, tuple[str, str]], data: Mapping[str, Curves], what: str
) -> FigureFile:
    def draw() -> Figure:
        from analysis.rendering.plots import draw_panels

        columns = 2 if len(data) == 4 else 3
        return draw_panels({each: ("iteration", panels[each][1], data[each]) for each in data}, columns)

    caption = (
        f"{what}. Each run smoothed by a running mean over {100 * curves.SMOOTHING:.0f}% of its "
        "logged points; line: mean over seeds; band: from the lowest to the highest seed."
    )
    if panels is LOSS_PANELS:
        caption += (
            " SmoothL1 with a smaller beta is a larger number for the same error, and T decides what is counted: box "
            "regression losses of different arms are on different scales."
        )
    return FigureFile(name, title, caption, data, draw)

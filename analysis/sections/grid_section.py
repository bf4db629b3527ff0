"""A grid's section of the report: the reading, the tables and the figures."""

from __future__ import annotations

from analysis.reading import consistency
from analysis.reading.manifest import Grid, Paper
from analysis.reading.records import Records
from analysis.rendering.markup import code, escape
from analysis.rendering.model import Block, FigureFile
from analysis.sections import image_section as image_blocks
from analysis.sections.claims import COCO, cell_verdicts, deviation
from analysis.sections.difference_tables import (
    contrast_table,
    difference_table,
    mask_difference_table,
    noise_table,
    threshold_difference_table,
    whose_baseline,
)
from analysis.sections.summary import paragraph
from analysis.sections.tables import (
    ablation_table,
    class_table,
    mask_table,
    paper_table,
    run_table,
    size_table,
    test_dev_table,
    threshold_table,
)
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import CONFIDENCE, LEVEL, POWER

MAX_CLASSES = 20


def section(records: Records, comparison: Comparison, figures: list[FigureFile]) -> list[Block]:
    """The section's blocks of Markdown, from its heading on."""
    grid = comparison.grid
    return [
        f"## {escape(grid.title)} ({escape(grid.dataset)})",
        f"Grid {code(grid.name)}, setting {code(grid.setting)}, data set {code(grid.dataset)}, {_baselines(grid)}.",
        paragraph(comparison),
        "### Ablation: AP by arm",
        f"AP in percent on {escape(grid.dataset)}: mean ± sd over seeds (ddof 1), n finished runs; in brackets "
        f"the {LEVEL} t interval of the mean on the sd pooled over all arms.",
        ablation_table(comparison),
        "### Difference from the baseline",
        f"Difference of the means in points of AP, in brackets the {LEVEL} t interval on the sd pooled over all "
        "arms (which takes their variances for equal). **Bold**: told apart from the baseline, p < "
        f"{1 - CONFIDENCE:.2f} after Holm's correction over the arms, for each metric by itself; the intervals are of "
        "each difference alone. The noise is that between seeds, on one set of images."
        f"{_start_note(records, comparison)}",
        difference_table(comparison),
        "### Noise between seeds",
        f"In points of AP. The smallest difference that is told apart with a probability of {100 * POWER:.0f}%, for "
        "one arm alone; the pooled sd with its degrees of freedom; the sd of each difference where seeds are paired.",
        noise_table(comparison),
        *_unseen_blocks(comparison),
        *_contrast_blocks(comparison),
        *filter(None, [consistency.note(records.done(grid))]),
        *_paper_blocks(comparison),
        "### AP at each IoU threshold",
        f"Mean over seeds in percent, then the differences, with {LEVEL} t intervals on the pooled sd; **bold** as "
        "above.",
        threshold_table(comparison),
        threshold_difference_table(comparison),
        *figures,
        *image_blocks.blocks(records.images.get(grid.key), comparison),
        *_mask_blocks(comparison),
        "### Object sizes and recall",
        f"AP by object size and recall (AR), in percent on {escape(grid.dataset)}: mean ± sd over seeds.",
        size_table(comparison),
        *_class_blocks(records, comparison),
        "### Runs",
        "AP and AP90 in percent. An id names the run's directory; a dirty commit had changes that were not "
        "committed. s / iteration is the median over the run, with whatever else ran beside it.",
        run_table(records, comparison),
    ]


def _mask_blocks(comparison: Comparison) -> list[Block]:
    if not comparison.has_masks:
        return []
    return [
        "### Masks",
        f"AP of the masks, by the IoU of pixels, in percent on {escape(comparison.grid.dataset)}: mean ± sd over "
        f"seeds; below it the differences from {whose_baseline(comparison.grid)}, as those of boxes above.",
        mask_table(comparison),
        mask_difference_table(comparison),
    ]


def _unseen_blocks(comparison: Comparison) -> list[Block]:
    unseen = comparison.unseen()
    if unseen is None or not unseen.n_done:
        return []
    seeds = ", ".join(map(str, comparison.grid.seen_seeds))
    return [
        f"### Difference from the baseline, without seed {seeds}",
        f"AP of seed {seeds} was in sight when settings of this grid were chosen (its file says how). The same as "
        "above, from the other seeds alone:",
        difference_table(unseen),
        noise_table(unseen),
    ]


def _contrast_blocks(comparison: Comparison) -> list[Block]:
    if not comparison.grid.contrasts:
        return []
    return [
        "### Contrasts",
        f"Pairs of arms that the grid names, in points of AP, with {LEVEL} t intervals; **bold**: told apart, "
        "after Holm's correction over these pairs.",
        contrast_table(comparison),
    ]


def _baselines(grid: Grid) -> str:
    own = [f"{code(other)} of {code(arm)}" for arm, other in grid.baselines.items()]
    return ", ".join([f"baseline {code(grid.baseline)}", *own])


def _start_note(records: Records, comparison: Comparison) -> str:
    """What the intervals leave out where all runs start from the same weights."""
    starts = records.starts(comparison.grid)
    if len(starts) != 1:
        return ""
    return (
        f" All runs start from the weights of one run ({code(starts['id'].iloc[0])}): what another start "
        "would have changed is not in these intervals."
    )


def _paper_blocks(comparison: Comparison) -> list[Block]:
    paper = comparison.grid.paper
    return [] if paper is None else _printed_blocks(comparison, paper) + _test_dev_blocks(comparison.grid, paper)


def _test_dev_blocks(grid: Grid, paper: Paper) -> list[Block]:
    if not paper.test_dev:
        return []
    note = (
        "The annotations of test-dev are not public, so that nothing measured here can be held against these "
        f"numbers: they get no verdict ({escape(paper.source)}). In brackets the difference from the paper's own "
        "baseline."
    )
    return ["### The paper's numbers on COCO test-dev: no verdict", note, test_dev_table(paper, grid)]


def _printed_blocks(comparison: Comparison, paper: Paper) -> list[Block]:
    grid = comparison.grid
    reason = deviation(grid)
    if grid.dataset == COCO and reason is None:
        heading = "### The paper's numbers"
        note = (
            "Each printed value against the mean over seeds, by the rule of `analysis/stats/verdict.py`; "
            "several cells of one table are not independent, and are not corrected for their number."
        )
        return [heading, note, paper_table(paper, grid), cell_verdicts(comparison)]
    elif grid.dataset == COCO:
        heading = "### The paper's numbers: NOT comparable with this setting"
        note = f"Numbers printed in the paper ({escape(paper.source)}). This grid is not of its setting: {reason}."
    else:
        heading = f"### The paper's numbers: COCO, NOT comparable with {escape(grid.dataset)}"
        note = (
            f"Numbers printed in the paper ({escape(paper.source)}); in brackets the difference from the "
            "paper's own baseline. Another data set, another model, another schedule: none of these numbers "
            f"can be held against one measured on {escape(grid.dataset)}. At most the direction and the "
            "pattern of the differences can."
        )
    return [heading, note, paper_table(paper, grid)]


def _class_blocks(records: Records, comparison: Comparison) -> list[Block]:
    averaged = records.classes["path"].isin(comparison.averaged["path"])
    count = records.classes.loc[averaged, "name"].nunique()
    if not 0 < count <= MAX_CLASSES:
        return []
    return [
        "### Classes",
        f"AP and AP90 in percent on {escape(comparison.grid.dataset)}: mean over seeds.",
        class_table(records, comparison),
    ]

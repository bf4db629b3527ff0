"""The report's section about a grid that trains: the summary, the tables and the figures."""

from __future__ import annotations

from analysis.reading import consistency
from analysis.reading.image_statistics import COMMAND
from analysis.reading.run_table import RunTable
from analysis.rendering.model import Block, Heading, Number, Row, Section, TableCell, table
from analysis.rendering.text import Line, code, emphasis, join, strong
from analysis.sections import (
    against_paper,
    declared_comparisons,
    difference_tables,
    image_section,
    paper_numbers,
    tables,
)
from analysis.sections.comparability import looks_text
from analysis.sections.grid_figures import figures
from analysis.sections.summary import paragraph, summary_line
from analysis.stats.comparison import PRIMARY, PRIMARY_FIRST, Comparison
from analysis.stats.estimate import POWER
from analysis.stats.seeds import ALPHA, LEVEL
from dynamic_rcnn.metrics.names import AP_METRICS, IOU_THRESHOLDS, MASK_METRICS, RECALL_METRICS, SIZE_METRICS
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

MAX_CLASSES = 20


def section(records: RunTable, comparison: Comparison) -> Section:
    """The section of a grid whose runs train."""
    grid = comparison.grid
    blocks = [
        grid_facts(grid) + ", " + _baselines(grid) + "." + _looks_note(grid),
        paragraph(comparison),
        Heading("Ablation: AP by arm"),
        f"AP in percent on {grid.dataset}: mean ± sd over the n finished seeds (ddof 1), and the {LEVEL} interval of "
        "the mean, " + noise_words(comparison) + ".",
        tables.mean_table(comparison, AP_METRICS, ["runs", "n"]),
        *_difference_blocks(records, comparison),
        *declared_comparisons.effect_blocks(comparison),
        *declared_comparisons.contrast_blocks(comparison),
        *declared_comparisons.equivalence_blocks(comparison),
        *_gradient_blocks(records, comparison),
        *_noise_blocks(comparison),
        *_unseen_blocks(comparison),
        *([note] if (note := consistency_note(records, grid)) else []),
        *paper_numbers.blocks(comparison),
        *against_paper.blocks(comparison),
        Heading("AP at each IoU threshold"),
        f"Exploratory. Mean over seeds in percent, then the differences, with {LEVEL} intervals; bold after Holm's "
        "correction over the arms, for each threshold separately.",
        tables.mean_table(comparison, IOU_THRESHOLDS, hidden=["sd"]),
        difference_tables.difference_table(comparison, IOU_THRESHOLDS),
        *figures(records, comparison),
        *image_section.blocks(records.images.get(grid.key), comparison),
        *_mask_blocks(comparison),
        Heading("Object sizes and recall"),
        f"AP by object size, and recall (AR), in percent on {grid.dataset}: mean ± sd over seeds.",
        tables.mean_table(comparison, (*SIZE_METRICS, *RECALL_METRICS), ["n"], hidden=["interval"]),
        *_class_blocks(records, comparison),
        Heading("Runs"),
        "AP and AP90 in percent. The name of a run's directory ends in its id. A commit is dirty if it had uncommitted "
        "changes. s / iteration is the median over the run; other jobs may have run at the same time.",
        tables.trained_run_table(records, comparison),
    ]
    return Section(grid.key, grid_title(grid), blocks, summary_line(comparison))


def grid_title(grid: Manifest) -> str:
    return f"{grid.title} ({grid.dataset})"


def grid_facts(grid: Manifest) -> Line:
    return "Grid " + code(grid.name) + ", setting " + code(grid.setting) + ", data set " + code(grid.dataset)


def _baselines(grid: Manifest) -> Line:
    own = [code(other) + " of " + code(arm) for arm, other in grid.baselines.items()]
    return join(", ", ["baseline " + code(grid.baseline), *own])


def _looks_note(grid: Manifest) -> Line:
    """What the intervals do not cover if the number of seeds was not fixed before the runs."""
    if not grid.looks:
        return ""
    known = looks_text(grid.looks)
    widened = "Verdicts on printed numbers are widened for that; the intervals below are not."
    return f" {known[0].upper()}{known[1:]}. {widened}"


def noise_words(comparison: Comparison) -> Line:
    """Which noises the intervals of boxes have."""
    if comparison.image_fault is None:
        return "for the noise between seeds and over images together"
    return (
        f"for the noise between seeds alone (over images: {comparison.image_fault}; " + code(COMMAND) + " computes it)"
    )


def _difference_blocks(records: RunTable, comparison: Comparison) -> list[Block]:
    text = (
        f"Points of AP with {LEVEL} intervals, "
        + noise_words(comparison)
        + ". Runs of one seed are a block: differences are least-squares estimates from arm + seed, which are the "
        "differences of the means if all arms have the same seeds. "
        + strong("Bold")
        + f": significant, p < {ALPHA} after Holm's correction over the rows of this table, for each metric "
        "separately; intervals are not corrected. Another grid corrects the same difference for its own arms, so it "
        f"can be bold on one page and not on another. {' and '.join(PRIMARY)} are the primary metrics, all others are "
        "exploratory." + _start_note(records, comparison)
    )
    return [
        Heading("Difference from the baseline"),
        text,
        difference_tables.difference_table(comparison, PRIMARY_FIRST),
    ]


def _gradient_blocks(records: RunTable, comparison: Comparison) -> list[Block]:
    """Which errors the box losses of runs of this grid learn from, where it was measured."""
    measured = [path for path in comparison.runs["path"] if path in records.box_gradients]
    if not measured:
        return []
    found = [records.box_gradients[path] for path in measured]
    text = (
        f"The share of the box loss's gradient that comes from errors below {found[0].below} (of the normalised "
        f"targets), for the final weights of a run, on {found[0].images} training images with fixed T and beta. "
        "Nothing was trained. Where the share is small, a smaller beta has little to shift."
    )
    betas = list(found[0].thresholds[0].shares)
    rows: list[Row] = [
        [
            TableCell(path.split("/", 1)[1].rsplit("-", 1)[0], [path]),
            *(Number(row.T), Number(float(row.positives), digits=0), Number(row.median, digits=3)),
            *(Number(row.shares.get(beta)) for beta in betas),
        ]
        for path, each in zip(measured, found, strict=True)
        for row in each.thresholds
    ]
    header = ["run", "T", "positives", "median error", *(f"beta {float(beta):.2f}" for beta in betas)]
    return [Heading("Which errors the box loss learns from"), text, table(header, rows)]


def _noise_blocks(comparison: Comparison) -> list[Block]:
    text = (
        "In points of AP: the smallest difference that would be significant with a probability of "
        f"{100 * POWER:.0f}% (the arm with the fewest seeds, not corrected); the sd of a run within its arm, which "
        "means have, and within its block, which differences have, with degrees of freedom."
    )
    return [Heading("Noise"), text, difference_tables.noise_table(comparison)]


def _start_note(records: RunTable, comparison: Comparison) -> Line:
    """What the runs start from, and what the intervals do not cover if it is the same for all."""
    starts = records.start_runs(comparison.grid)
    known = 100 * starts["accuracy"].dropna()
    if len(known) > 1:
        shares = f"{known.min():.0f}% to {known.max():.0f}%"
        return f" Each seed has a pretraining of its own; they classify {shares} of the validation objects correctly."
    if len(starts) != 1:
        return ""
    start = " All runs start from the weights of one run (" + code(starts["id"].iloc[0])
    return start + "); the intervals do not cover the effect of a different start."


def _unseen_blocks(comparison: Comparison) -> list[Block]:
    unseen = comparison.without_seen_seeds()
    if unseen is None or not unseen.n_done:
        return []
    seeds = ", ".join(map(str, comparison.grid.seen_seeds))
    return [
        Heading(f"Difference from the baseline, without seed {seeds}"),
        f"The AP of seed {seeds} was known when settings of this grid were chosen (see the grid's file). The same "
        "tables from the other seeds alone, with bold corrected over their own rows:",
        difference_tables.difference_table(unseen, PRIMARY_FIRST),
        difference_tables.noise_table(unseen),
    ]


def consistency_note(records: RunTable, grid: Manifest) -> Line:
    """A note on the properties in which the finished runs differ besides their arms; empty if there are none."""
    done = records.finished_runs(grid)
    parts: list[Line] = []
    for name, groups in consistency.differences(done).items():
        counts = " and ".join(plural("run", rows["path"].nunique()) for rows in groups.values())
        differ = strong(f"The finished runs differ in {name}")
        parts.append(differ + f" ({counts}), which may explain differences between arms.")
    for arm, settings in consistency.mixed_arms(done).items():
        parts.append(strong(f"{arm} has runs of {len(settings)} settings") + " and no mean.")
    lists = emphasis("Problems found while reading") + " lists these runs."
    return join(" ", [*parts, lists]) if parts else ""


def _mask_blocks(comparison: Comparison) -> list[Block]:
    if not comparison.has_masks:
        return []
    return [
        Heading("Masks"),
        f"AP of the masks, by IoU of pixels, in percent on {comparison.grid.dataset}: mean ± sd over seeds; then the "
        f"differences from {tables.whose_baseline(comparison.grid)} as for boxes above, for the noise between seeds "
        "alone; bold after Holm's correction over the arms, for each metric separately.",
        tables.mean_table(comparison, MASK_METRICS, ["n"], hidden=["interval"]),
        difference_tables.difference_table(
            comparison, MASK_METRICS, [difference_tables.residual_row(comparison, MASK_METRICS)]
        ),
    ]


def _class_blocks(records: RunTable, comparison: Comparison) -> list[Block]:
    averaged = records.classes["path"].isin(comparison.averaged["path"])
    count = records.classes.loc[averaged, "name"].nunique()
    if not 0 < count <= MAX_CLASSES:
        return []
    return [
        Heading("Classes"),
        f"AP and AP90 in percent on {comparison.grid.dataset}: mean over seeds.",
        tables.class_table(records, comparison),
    ]

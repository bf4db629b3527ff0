"""The report's section about a grid that trains: the summary, the tables and the figures."""

from __future__ import annotations

from analysis.reading import consistency
from analysis.reading.run_table import RunTable
from analysis.rendering.model import Block, Heading, Section
from analysis.rendering.text import Line, code, emphasis, join, strong
from analysis.sections import image_section, paper_numbers, tables
from analysis.sections.comparability import looks_text
from analysis.sections.grid_figures import figures
from analysis.sections.summary import paragraph
from analysis.stats.comparison import Comparison
from analysis.stats.seeds import CONFIDENCE, LEVEL, POWER
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
        f"AP in percent on {grid.dataset}: mean ± sd over the n finished seeds (ddof 1), and the {LEVEL} t interval of "
        "the mean, from the sd pooled over all arms.",
        tables.mean_table(comparison, AP_METRICS, ["runs", "n"]),
        *_difference_blocks(records, comparison),
        *_unseen_blocks(comparison),
        *_contrast_blocks(comparison),
        *([note] if (note := consistency_note(records, grid)) else []),
        *paper_numbers.blocks(comparison),
        Heading("AP at each IoU threshold"),
        f"Mean over seeds in percent, then the differences, each with its {LEVEL} t interval; bold as above.",
        tables.mean_table(comparison, IOU_THRESHOLDS, hidden=["sd"]),
        tables.difference_table(comparison, IOU_THRESHOLDS),
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
    return Section(grid.key, grid_title(grid), blocks)


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


def _difference_blocks(records: RunTable, comparison: Comparison) -> list[Block]:
    differences = (
        f"Difference of means in points of AP, with its {LEVEL} t interval from the sd pooled over all arms, which "
        "assumes equal variances. "
        + strong("Bold")
        + f": significant, p < {1 - CONFIDENCE:.2f} after Holm's correction over the arms, for each metric separately; "
        "the intervals are not corrected. They cover the noise between seeds, on one set of images."
        + _start_note(records, comparison)
    )
    return [
        Heading("Difference from the baseline"),
        differences,
        tables.difference_table(comparison),
        Heading("Noise between seeds"),
        "In points of AP: the smallest difference that would be significant with a probability of "
        f"{100 * POWER:.0f}% (one arm, not corrected), the pooled sd with its degrees of freedom, and the sd of the "
        "differences between runs of the same seed.",
        tables.noise_table(comparison),
    ]


def _start_note(records: RunTable, comparison: Comparison) -> Line:
    """What the intervals do not cover if all runs start from the same weights."""
    starts = records.start_runs(comparison.grid)
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
        "tables from the other seeds alone:",
        tables.difference_table(unseen),
        tables.noise_table(unseen),
    ]


def _contrast_blocks(comparison: Comparison) -> list[Block]:
    if not comparison.grid.contrasts:
        return []
    note = f"Pairs of arms that the grid names, in points of AP, with {LEVEL} t intervals. " + strong("Bold")
    return [
        Heading("Contrasts"),
        note + ": significant after Holm's correction over these pairs.",
        tables.contrast_table(comparison),
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
        f"differences from {tables.whose_baseline(comparison.grid)}, as for boxes above.",
        tables.mean_table(comparison, MASK_METRICS, ["n"], hidden=["interval"]),
        tables.difference_table(comparison, MASK_METRICS, [tables.pooled_row(comparison, MASK_METRICS)]),
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

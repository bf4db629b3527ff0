"""The report's section on a grid that times its arms: training, inference, and the ratios of the paper's table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.reading import consistency
from analysis.reading.records import Records
from analysis.rendering.markup import NOTHING, code, escape, number, one_of
from analysis.rendering.model import Block, Cell, Row, Table, numbers, table
from analysis.sections.tables import commit_text
from analysis.stats import verdict
from analysis.stats.comparison import describe_state
from analysis.stats.seeds import LEVEL, Ratio
from analysis.stats.timing import IMAGES_PER_SECOND, NO_MEMORY, PAIRS, Speed, limits, overhead_text
from dynamic_rcnn.run.timing_results import INFERENCE, TRAINING

MEGABYTE = 1e6


def speed_section(records: Records, speed: Speed) -> list[Block]:
    """The section's blocks of Markdown, from its heading on."""
    grid = speed.grid
    head = [
        f"## {escape(grid.title)} ({escape(grid.dataset)})",
        f"Grid {code(grid.name)}, setting {code(grid.setting)}, data set {code(grid.dataset)}.",
    ]
    if not speed.n_done:
        return [*head, "No run of this grid has finished; there is nothing to read yet."]
    return [
        *head,
        "All arms in one process, in blocks of every arm in turn, in a random order and on the same inputs. A ratio is "
        f"the geometric mean over paired blocks, in brackets its {LEVEL} t interval: the noise within a run, not that "
        "between machines. Images are loaded outside of all timing. Weights are random from the seed, the backbone's "
        "where the base names some.",
        *([f"No extra overhead: {overhead_text(speed)}."] if "both" in speed.arms else []),
        "### Training",
        f"Seconds an iteration: median over {_blocks(speed, TRAINING)}. Memory: the most that was allocated in any "
        f"block for this arm alone{'' if _has_memory(speed) else f'; {NO_MEMORY}'}.",
        training_table(speed),
        "### Inference",
        "One image at a time, preprocessing and post-processing included; images a second by the median over "
        f"{_blocks(speed, INFERENCE)}, ratios are of images a second. The score threshold of each arm is set so that "
        "twice as many (box, class) pairs pass as there are proposals: random weights would leave that work to chance.",
        inference_table(speed),
        *_paper_blocks(speed),
        *filter(None, [consistency.note(records.done(grid))]),
        "### Timing runs",
        run_table(speed),
    ]


def training_table(speed: Speed) -> Table:
    """A row an arm that was trained."""
    header = ["arm", "s / iteration", "to the baseline's", "peak MB", "to the baseline's"]
    return table(header, [_training_row(speed, arm) for arm in speed.arms if speed.seconds(TRAINING, arm)])


def _training_row(speed: Speed, arm: str) -> Row:
    peak = speed.peak(TRAINING, arm)
    return [
        _title(speed, arm),
        _cell(speed, speed.seconds(TRAINING, arm), 3),
        _to_baseline(speed, arm, speed.ratio(TRAINING, "seconds", arm, speed.baseline)),
        _cell(speed, None if peak is None else peak / MEGABYTE, 0),
        _to_baseline(speed, arm, speed.ratio(TRAINING, "peaks", arm, speed.baseline)),
    ]


def inference_table(speed: Speed) -> Table:
    """A row an arm."""
    header = ["arm", "network", "images / s", "to the baseline's", "peak MB", "proposals", "detections"]
    return table(header, [_inference_row(speed, arm) for arm in speed.arms], text_columns=2)


def _inference_row(speed: Speed, arm: str) -> Row:
    seconds, peak = speed.seconds(INFERENCE, arm), speed.peak(INFERENCE, arm)
    same = arm != speed.baseline and speed.same_network(arm, speed.baseline)
    return [
        _title(speed, arm),
        "the same network as the baseline" if same else "",
        _cell(speed, 1 / seconds if seconds else None, 2),
        _to_baseline(speed, arm, speed.ratio(INFERENCE, "seconds", speed.baseline, arm)),
        _cell(speed, None if peak is None else peak / MEGABYTE, 0),
        _cell(speed, speed.mean("proposals", arm), 0),
        _cell(speed, speed.mean("detections", arm), 0),
    ]


def _paper_blocks(speed: Speed) -> list[Block]:
    paper = speed.grid.paper
    if paper is None:
        return []
    printed = {arm: row[IMAGES_PER_SECOND] for arm, row in paper.rows.items() if IMAGES_PER_SECOND in row}
    rows: list[Row] = [
        _pair_row(speed, *pair, printed) for pair in PAIRS if set(pair) <= set(printed) & set(speed.arms)
    ]
    note = (
        f"Images a second are those of one GPU, so ratios are compared, by the rule of `analysis/stats/verdict.py` "
        f"(within {verdict.SPEED} times). The published speeds ({escape(paper.dataset)}) are of "
        "trained weights."
    )
    header = [escape(paper.table), "published, images / s", "ratio", "measured ratio", "verdict"]
    return [f"### The paper's speeds ({escape(paper.table)})", note, table(header, rows)] if rows else []


def _pair_row(speed: Speed, arm: str, other: str, printed: dict[str, float]) -> Row:
    claimed = printed[arm] / printed[other]
    ratio = speed.ratio(INFERENCE, "seconds", other, arm)  # fewer seconds, more images a second
    said = verdict.NOT_RUN if ratio is None else verdict.decide_speed(ratio, claimed).text
    return [
        f"{escape(speed.arms[arm])} to {escape(speed.arms[other])}",
        f"{number(printed[arm], 1)}, {number(printed[other], 1)}",
        number(claimed, 2),
        _ratio_cell(speed, ratio),
        speed.incomplete or said if speed.reason is None else f"{verdict.NOT_COMPARABLE}: {speed.reason}",
    ]


def run_table(speed: Speed) -> Table:
    """A row a run: how it ended, and where."""
    header = ["run", "id", "state", "attempts", "commit", "device"]
    return table(header, [_run_row(row) for row in speed.runs.to_dict("records")], text_columns=6)


def _run_row(row: dict[Any, Any]) -> Row:
    known: dict[Any, Any] = {key: None if pd.isna(value) else value for key, value in row.items()}
    return [
        f"{escape(known['arm'])}, seed {known['seed']}",
        Cell(code(known["path"].rsplit("-", 1)[-1]), runs=[known["path"]]),
        escape(describe_state(known["state"], known["cause"])),
        NOTHING if known["attempts"] is None else number(known["attempts"], 0),
        commit_text(known["commit"], known["dirty"]),
        escape(known["device"] or NOTHING),
    ]


def _title(speed: Speed, arm: str) -> str:
    return f"{escape(arm)}: {escape(speed.arms[arm])}"


def _to_baseline(speed: Speed, arm: str, ratio: Ratio | None) -> Cell:
    return _ratio_cell(speed, None if arm == speed.baseline else ratio)


def _ratio_cell(speed: Speed, ratio: Ratio | None) -> Cell:
    if ratio is None:
        return Cell(NOTHING)
    known = numbers(ratio=ratio.value, low=ratio.low, high=ratio.high)
    return Cell(f"{number(ratio.value, 3)}<br>{limits(ratio)}", known, speed.paths)


def _cell(speed: Speed, value: float | None, digits: int) -> Cell:
    return Cell(number(value, digits), numbers(value=value), [] if value is None else speed.paths)


def _blocks(speed: Speed, part: str) -> str:
    """'15 blocks of 2 images'."""
    ratio = speed.ratio(part, "seconds", speed.baseline, speed.baseline)
    found = speed.found[0].training if part == TRAINING else speed.found[0].inference
    return f"{one_of('block', ratio.n if ratio else 0)} of {one_of(found.unit, found.block)}"


def _has_memory(speed: Speed) -> bool:
    return speed.peak(TRAINING, speed.baseline) is not None

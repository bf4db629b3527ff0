"""The section of a grid that times its arms: training, inference, the paper's speeds, and "no extra overhead"."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.reading.run_table import RunTable
from analysis.rendering.model import Block, Heading, Number, Row, Section, Table, TableCell, table
from analysis.rendering.text import NOTHING, Line, join, number, strong
from analysis.sections.claims import FULL_METHOD
from analysis.sections.comparability import COCO, deviation, lost_text, unfinished_text
from analysis.sections.grid_section import consistency_note, grid_facts, grid_title
from analysis.sections.paper_numbers import RULE
from analysis.sections.summary import NOTHING_YET
from analysis.sections.tables import RUN_COLUMNS, RunColumns, run_table
from analysis.stats import verdict
from analysis.stats.comparison import describe_state, is_lost
from analysis.stats.seeds import TOST_LEVEL
from analysis.stats.timing import IMAGES_PER_SECOND, CostRatio, TimingComparison, counted_costs, overhead_verdict
from dynamic_rcnn.run.results import CPU, INFERENCE, TRAINING
from dynamic_rcnn.wording import plural

MEGABYTE = 1e6
PAIRS = ((FULL_METHOD, "cascade"), ("dynamic_mask", "cascade_mask"))  # arms whose published speeds are compared
RUNS: RunColumns = {
    "run": lambda row: f"{row['arm']}, seed {row['seed']}",
    **{title: RUN_COLUMNS[title] for title in ("id", "state", "attempts", "commit", "device")},
    "state": lambda row: describe_state(row["state"], row["cause"]),  # without the iteration
}


def section(records: RunTable, speed: TimingComparison) -> Section:
    """The section of a grid whose runs time several arms."""
    grid = speed.grid
    summary = overhead_text(speed) if speed.n_done and FULL_METHOD in speed.arms else NOTHING_YET
    return Section(grid.key, grid_title(grid), [grid_facts(grid) + ".", *_blocks(records, speed)], summary)


def _blocks(records: RunTable, speed: TimingComparison) -> Iterable[Block]:
    if not speed.n_done:
        yield NOTHING_YET
        return
    yield (
        "All arms are timed in one process, in alternating blocks in random order, on the same inputs. A ratio is the "
        f"geometric mean over paired blocks, with its {TOST_LEVEL} t interval, which covers the noise within a run but "
        "not between machines. Loading images is not timed. Weights are random, except for a backbone whose pretrained "
        "weights the base names."
    )
    if FULL_METHOD in speed.arms:
        yield "No extra overhead: " + overhead_text(speed) + "."
    memory = "" if speed.peak(TRAINING, speed.baseline) is not None else "; not available on a CPU"
    yield Heading("Training")
    yield (
        f"Seconds per iteration: median over {_block_counts(speed, TRAINING)}. Memory: the peak that this arm alone "
        f"allocated in any block{memory}."
    )
    yield _training_table(speed)
    yield Heading("Inference")
    yield (
        "One image at a time, with preprocessing and post-processing. Images per second: median over "
        f"{_block_counts(speed, INFERENCE)}; ratios are of images per second. Each arm's score threshold lets twice as "
        "many (box, class) pairs pass as there are proposals: with random weights the work of post-processing would "
        "otherwise be arbitrary."
    )
    yield _inference_table(speed)
    yield from _paper_blocks(speed)
    if note := consistency_note(records, speed.grid):
        yield note
    yield Heading("Timing runs")
    yield run_table(speed.runs.to_dict("records"), RUNS, text_columns=len(RUNS))


def _training_table(speed: TimingComparison) -> Table:
    """One row per arm that was trained."""
    rows: list[Row] = []
    for arm, title in speed.arms.items():
        if seconds := speed.seconds(TRAINING, arm):
            ratios = [_ratio_cell(speed, TRAINING, what, arm, speed.baseline) for what in ("seconds", "peaks")]
            cells = [_number_cell(speed, seconds, 3), ratios[0], _peak_cell(speed, TRAINING, arm), ratios[1]]
            rows.append([f"{arm}: {title}", *cells])
    return table(["arm", "s / iteration", "ratio to baseline", "peak MB", "ratio to baseline"], rows)


def _inference_table(speed: TimingComparison) -> Table:
    """One row per arm."""
    header = ["arm", "network", "images / s", "ratio to baseline", "peak MB", "proposals", "detections"]
    rows: list[Row] = []
    for arm, title in speed.arms.items():
        seconds = speed.seconds(INFERENCE, arm)
        is_same = arm != speed.baseline and speed.same_network(arm, speed.baseline)
        cells = [
            _number_cell(speed, 1 / seconds if seconds else None, 2),
            _ratio_cell(speed, INFERENCE, "seconds", speed.baseline, arm),  # fewer seconds, more images per second
            _peak_cell(speed, INFERENCE, arm),
            *(_number_cell(speed, speed.mean(field, arm), 0) for field in ("proposals", "detections")),
        ]
        rows.append([f"{arm}: {title}", "same as the baseline" if is_same else "", *cells])
    return table(header, rows, text_columns=2)


def _paper_blocks(speed: TimingComparison) -> list[Block]:
    paper = speed.grid.paper
    if paper is None:
        return []
    printed = {arm: row[IMAGES_PER_SECOND] for arm, row in paper.rows.items() if IMAGES_PER_SECOND in row}
    pairs = [pair for pair in PAIRS if set(pair) <= set(printed) & set(speed.arms)]
    if not pairs:
        return []
    factor = f" (within a factor of {verdict.SPEED}). The published speeds ({paper.dataset}) are of trained weights."
    note = "Speeds depend on the GPU, so ratios are compared, by " + RULE + factor
    header = [paper.table, "published, images / s", "published ratio", "measured ratio", "verdict"]
    rows = [_pair_row(speed, *pair, printed) for pair in pairs]
    return [Heading(f"The paper's speeds ({paper.table})"), note, table(header, rows)]


def _pair_row(speed: TimingComparison, arm: str, other: str, printed: dict[str, float]) -> Row:
    claimed = printed[arm] / printed[other]
    ratio = speed.ratio(INFERENCE, "seconds", other, arm)
    decided: Line = verdict.NOT_RUN if ratio is None else verdict.decide_speed(ratio, claimed).text
    if reason := why_not_comparable(speed):
        decided = f"{verdict.NOT_COMPARABLE}: " + reason
    return [
        f"{speed.arms[arm]} to {speed.arms[other]}",
        f"{number(printed[arm], 1)}, {number(printed[other], 1)}",
        number(claimed, 2),
        _ratio_cell(speed, INFERENCE, "seconds", other, arm),
        decided if reason else incomplete_text(speed) or decided,
    ]


def why_not_comparable(speed: TimingComparison) -> Line | None:
    """Why the timings cannot be compared with the paper's; None if they can."""
    parts: list[Line] = [f"on {speed.grid.dataset}"] if speed.grid.dataset != COCO else []
    parts += ["on a CPU"] if any(run.device == CPU for run in speed.results) else []
    if speed.grid.dataset == COCO and (other := deviation(speed.grid)):
        parts.append(other)
    return join(", ", parts) if parts else None


def incomplete_text(speed: TimingComparison) -> str | None:
    """Why comparable runs decide nothing: some are lost or not finished. None if they do."""
    states = [describe_state(row.state, row.cause) for row in speed.runs.itertuples()]
    lost = [state for state in states if is_lost(state)]
    if lost:
        return lost_text(f"{plural('run', len(lost))} {lost[0]}")
    return unfinished_text(len(states) - states.count("done"))


def overhead_verdicts(timings: list[TimingComparison], on_gpu: list[Line]) -> list[Line]:
    """The verdicts on "no extra overhead", or NOT RUN; then the timings that cannot be compared.

    on_gpu: the verdicts on what was timed on drawn images.
    """
    timed = [each for each in timings if each.n_done and FULL_METHOD in each.arms]
    decided = [overhead_text(each) for each in timed if why_not_comparable(each) is None] + on_gpu
    others = [overhead_text(each) for each in timed if why_not_comparable(each) is not None]
    return [*(decided or [strong(verdict.NOT_RUN)]), *others]


def overhead_text(speed: TimingComparison) -> Line:
    """The verdict, or why there is none, and the three ratios behind it."""
    costs, is_same = speed.costs(FULL_METHOD), speed.same_network(FULL_METHOD, speed.baseline)
    reason = why_not_comparable(speed)
    ratios = "; ".join(cost_text(cost, reason is None, is_same) for cost in costs)
    if reason is not None:
        return f"{verdict.NOT_COMPARABLE}: " + reason + f": {ratios}"
    decided = strong(incomplete_text(speed) or overhead_verdict(counted_costs(costs, is_same)))
    return decided + f": {ratios}; margin {verdict.OVERHEAD}"


def cost_text(cost: CostRatio, decides: bool, is_same_network: bool) -> str:
    if cost.ratio is None or cost.decision is None:
        return f"{cost.name}: not measured"
    limits = f"[{number(cost.ratio.low, 3)}, {number(cost.ratio.high, 3)}]"
    ratio = f"{number(cost.ratio.value, 3)} times the baseline, {TOST_LEVEL} interval {limits}"
    shown = f"{ratio} ({plural('block', cost.ratio.n)})"
    if is_same_network and cost.name.startswith("inference"):
        return f"{cost.name}: same network, {shown}"
    return f"{cost.name} {cost.decision.text}: {shown}" if decides else f"{cost.name}: {shown}"


def _ratio_cell(speed: TimingComparison, part: str, quantity: str, arm: str, other: str) -> TableCell:
    ratio = None if arm == other else speed.ratio(part, quantity, arm, other)
    if ratio is None:
        return TableCell(NOTHING)
    return TableCell(Number(ratio.value, "ratio", 3, low=ratio.low, high=ratio.high), speed.paths)


def _peak_cell(speed: TimingComparison, part: str, arm: str) -> TableCell:
    peak = speed.peak(part, arm)
    return _number_cell(speed, None if peak is None else peak / MEGABYTE, 0)


def _number_cell(speed: TimingComparison, value: float | None, digits: int) -> TableCell:
    return TableCell(Number(value, digits=digits), [] if value is None else speed.paths)


def _block_counts(speed: TimingComparison, part: str) -> str:
    """'15 blocks of 2 images'."""
    ratio = speed.ratio(part, "seconds", speed.baseline, speed.baseline)
    timed = speed.results[0].training if part == TRAINING else speed.results[0].inference
    return f"{plural('block', ratio.n if ratio else 0)} of {plural(timed.unit, timed.block)}"

"""The section of what `python -m benchmarks.gpu` timed on a GPU, and its verdict on "no extra overhead"."""

from __future__ import annotations

from statistics import median

from analysis.rendering.model import Block, Number, Row, Section, table
from analysis.rendering.text import NOTHING, Line, code, join, strong
from analysis.sections.claims import FULL_METHOD
from analysis.sections.timing_section import MEGABYTE, cost_text
from analysis.stats import verdict
from analysis.stats.seeds import TOST_LEVEL, Ratio, paired_ratio
from analysis.stats.timing import RESPECTS, CostRatio, counted_costs, overhead_verdict
from dynamic_rcnn.run.gpu_times import COMPONENTS, ComparedTimes, GpuTimes
from dynamic_rcnn.run.manifest import PUBLISHED_BASE
from dynamic_rcnn.run.results import CPU
from dynamic_rcnn.wording import plural

COMMAND = "python -m benchmarks.gpu"
HEADER = ("comparison", "arm", "blocks", "s / iteration", "ratio to the first", "peak MB", "ratio to the first")


def sections(gpu: GpuTimes | None) -> list[Section]:
    """The section; none without a record."""
    return [] if gpu is None else [Section("gpu", "Training on one GPU, timed in turns", _blocks(gpu))]


def not_run(gpu: GpuTimes | None) -> list[Line]:
    """A line for the list of what was not run, unless the record is of a GPU."""
    if gpu is not None and why_not_comparable(gpu) is None:
        return []
    return [f"{verdict.NOT_RUN}: training on a GPU, timed on drawn images: " + code(COMMAND)]


def overhead_verdicts(gpu: GpuTimes | None) -> list[Line]:
    """The verdict on "no extra overhead" if the record decides it."""
    if gpu is None or why_not_comparable(gpu) is not None or COMPONENTS not in gpu.comparisons:
        return []
    return [overhead_text(gpu)]


def why_not_comparable(gpu: GpuTimes) -> Line | None:
    """Why the times decide nothing about the paper's recipe on a GPU; None if they do."""
    parts: list[Line] = ["on a CPU"] if gpu.origin.device in (None, CPU) else []
    parts += ["base " + code(gpu.base)] if gpu.base != PUBLISHED_BASE else []
    return join(", ", parts) if parts else None


def overhead_text(gpu: GpuTimes) -> Line:
    """The verdict, or why there is none, and the ratios of time and memory behind it."""
    times, reason = gpu.comparisons[COMPONENTS], why_not_comparable(gpu)
    costs = [CostRatio(name, _ratio(times, quantity, FULL_METHOD)) for name, _, quantity in RESPECTS[:2]]
    ratios = "; ".join(cost_text(cost, reason is None, True) for cost in costs)
    if reason is not None:
        return f"{verdict.NOT_COMPARABLE}: " + reason + f": {ratios}"
    decided = strong(overhead_verdict(counted_costs(costs, True))) + f": {ratios}; margin {verdict.OVERHEAD}"
    return decided + f" (one {gpu.origin.device}, {gpu.images})"


def _blocks(gpu: GpuTimes) -> list[Block]:
    origin, versions = gpu.origin, gpu.origin.versions or {}
    arithmetic = origin.arithmetic
    facts = {
        "device": origin.device,
        "torch": versions.get("torch"),
        "CUDA": arithmetic and arithmetic.cuda,
        "cuDNN": arithmetic and arithmetic.cudnn,
        "driver": arithmetic and arithmetic.driver,
    }
    commit = [", commit " + code(origin.commit[:8]) + (" (dirty)" if origin.dirty else "")] if origin.commit else []
    machine = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    blocks: list[Block] = [
        join("", [f"Measured by {COMMAND}: base ", code(gpu.base), f", {gpu.images}; {machine}", *commit, "."]),
        "The arms of a comparison train in one process, in alternating blocks in random order. A ratio is the "
        f"geometric mean over paired blocks, with its {TOST_LEVEL} t interval. Memory: the peak that this arm alone "
        "allocated. Weights are random and the images show nothing: this is the cost of training, not its result.",
    ]
    if COMPONENTS in gpu.comparisons:
        blocks.append("No extra overhead: " + overhead_text(gpu) + ".")
    rows = [_row(times, arm) for times in gpu.comparisons.values() for arm in times.arms if arm in times.seconds]
    return [*blocks, table(HEADER, rows, text_columns=2)]


def _row(times: ComparedTimes, arm: str) -> Row:
    seconds, peaks = times.seconds[arm], times.peaks.get(arm, {})
    ratios = [None if arm == times.reference else _ratio(times, what, arm) for what in ("seconds", "peaks")]
    return [
        times.title,
        times.arms[arm],
        Number(len(seconds), digits=0, note=f" of {plural(times.unit, times.block)}"),
        Number(median(seconds.values()), digits=3),
        _ratio_number(ratios[0]),
        Number(max(peaks.values()) / MEGABYTE if peaks else None, digits=0),
        _ratio_number(ratios[1]),
    ]


def _ratio(times: ComparedTimes, quantity: str, arm: str) -> Ratio | None:
    values = getattr(times, quantity)
    return paired_ratio(values.get(arm, {}), values.get(times.reference, {}))


def _ratio_number(ratio: Ratio | None) -> Number | str:
    return NOTHING if ratio is None else Number(ratio.value, "ratio", 3, low=ratio.low, high=ratio.high)

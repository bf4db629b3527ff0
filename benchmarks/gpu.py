"""Times training iterations on one GPU and writes a record that the report shows and judges.

    python -m benchmarks.gpu [out=runs/gpu.json] [minutes=8] [rounds=20] [iterations=5] [warmup=100] [workers=2,4,8]
        [tiny=false] [seed=0]

out                  the record; `python analysis/report.py` reads it as gpu.json in the folder of runs
minutes              no comparison starts later than this, and each stops after its share of the time, but not before it
                     has two rounds
rounds, iterations   each round times one block of so many iterations of every arm, on the same batches
warmup               iterations before the first block of both components, whose first T and beta then apply; the other
                     arms have a tenth of it
workers              numbers of loading processes to compare
tiny                 true: a small model on small images, to try the script on a CPU

It draws 64 images of 640 x 480 pixels in COCO's layout with random content, and trains the R-50 recipe on them, 2 per
iteration, from random weights. The arms of a comparison train in one process and take turns, so that a disturbance
slows all of them. The last lines are a table.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from analysis.stats.seeds import paired_ratio
from benchmarks.gpu_arms import Arm, LoadingArm, PeerArm, SuiteArm
from benchmarks.gpu_recipe import SIZES, changed, describe, make_spec
from dynamic_rcnn.cli import boolean, count, parse, run
from dynamic_rcnn.engine import build, precision
from dynamic_rcnn.engine.ending import UncheckedLosses, raise_if_bad
from dynamic_rcnn.engine.start import select_device
from dynamic_rcnn.engine.timing_run import Meter, draw_order
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.files import write_content
from dynamic_rcnn.run.gpu_times import COMPONENTS, ComparedTimes, GpuTimes
from dynamic_rcnn.run.results import Block
from dynamic_rcnn.run.spec import RunSpec

DEFAULTS = {
    **{"out": "runs/gpu.json", "minutes": "8", "rounds": "20", "iterations": "5", "warmup": "100"},
    **{"workers": "2,4,8", "tiny": "false", "seed": "0"},
}
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
LOADING_BLOCK = 4  # times as long, so that a block is longer than what was loaded ahead
LEAST_ROUNDS = 2


Arms = dict[str, tuple[str, Callable[[], Arm]]]  # name -> title, and what builds the arm


class PlannedComparison(NamedTuple):
    """Arms to compare with the first one.

    share: of the time. iterations: of each block. warmup: iterations of each arm before its first block. has_peaks:
    whether peak memory is recorded.
    """

    name: str
    title: str
    share: float
    arms: Arms
    iterations: int
    warmup: int
    has_peaks: bool = True


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for a bad argument, and without a GPU unless tiny=true."""
    started = time.monotonic()
    values = parse(arguments, DEFAULTS)
    tiny, out = boolean("tiny", values["tiny"]), Path(values["out"])
    numbers = ("minutes", "rounds", "iterations", "warmup", "seed")
    size = {name: count(name, values[name], 0 if name == "seed" else 1) for name in numbers}
    workers = [count("workers", each, 1) for each in values["workers"].split(",")]
    device = select_device()
    if device.type == "cpu" and not tiny:
        raise UserError("torch sees no GPU (torch.cuda.is_available() is False); tiny=true tries this script on a CPU")
    precision.configure({"precision": "fp32", "deterministic": True}, device)  # before CUDA reads the environment
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec(Path(folder), tiny, size["seed"])
        bench = Bench(spec, device, size)
        record = GpuTimes(base=SIZES[tiny].base, images=describe(tiny, spec), origin=describe_origin(device, arguments))
        end = started
        for plan in comparisons(bench, workers):
            end += 60 * size["minutes"] * plan.share
            if time.monotonic() - started < 60 * size["minutes"]:
                record.comparisons[plan.name] = bench.compare(plan, end)
                write_content(out, record)
            else:
                print(f"{plan.name}: left out, the {size['minutes']} minutes are over")
    print_table(record)
    print(f"{out}: written after {time.monotonic() - started:.0f} s on {bench.meter.name}")
    return 0


def describe_origin(device: torch.device, arguments: Sequence[str]) -> provenance.Origin:
    """Commit, versions and machine."""
    known = provenance.collect(
        device=Meter(device).name,
        threads=torch.get_num_threads(),
        processes=1,
        arithmetic=precision.describe({"precision": "fp32"}, device),
    )
    return known.model_copy(update={"command": " ".join(["python -m benchmarks.gpu", *arguments])})


class Bench:
    """Times comparisons on one device.

    Args:
        spec: of the baseline.
        size: rounds, iterations, warmup and seed.
    """

    def __init__(self, spec: RunSpec, device: torch.device, size: dict[str, int]) -> None:
        self.spec, self.device, self.size = spec, device, size
        self.meter, self.losses = Meter(device), UncheckedLosses()
        self.images = build.build_dataset(spec, "train", Path(spec.dataset["root"]))
        self.batches = build.Batches(self.images, spec.seed, spec.config["train"], range(1))

    def suite(self, **changes: Any) -> SuiteArm:
        return SuiteArm(changed(self.spec, **changes), self.device, self.losses)

    def compare(self, plan: PlannedComparison, end: float) -> ComparedTimes:
        """Time rounds until all are done or `end` has passed, a time of `time.monotonic`."""
        warm = list(self.batches.between(0, self.size["iterations"]))
        arms: dict[str, Arm] = {}
        held: dict[str, int] = {}
        for name, (_, make) in plan.arms.items():
            before = self.meter.allocated()
            arms[name] = make()
            arms[name].prepare()
            arms[name].work([warm[number % len(warm)] for number in range(plan.warmup)])
            held[name] = self.meter.allocated() - before
        blocks = list(self._rounds(plan, arms, held, end))
        arms.clear()
        gc.collect()
        torch.cuda.empty_cache()
        return ComparedTimes(
            title=plan.title,
            reference=next(iter(plan.arms)),
            arms={name: title for name, (title, _) in plan.arms.items()},
            unit="iteration",
            block=plan.iterations,
            warmup=plan.warmup,
            blocks=blocks,
        )

    def _rounds(
        self, plan: PlannedComparison, arms: dict[str, Arm], held: dict[str, int], end: float
    ) -> Iterator[Block]:
        for number in range(self.size["rounds"]):
            if number >= LEAST_ROUNDS and time.monotonic() > end:
                return
            inputs = list(self.batches.between(number * plan.iterations, (number + 1) * plan.iterations))
            for name in draw_order(list(arms), self.size["seed"], plan.name, number):
                arms[name].prepare()
                seconds, peak = self.meter.time(partial(arms[name].work, inputs), held[name])
                raise_if_bad(self.losses.first_bad())
                each = seconds / len(inputs)
                print(f"{plan.name}, round {number}, {name}: {each:.4f} s", flush=True)
                yield Block(round=number, arm=name, seconds=each, peak_bytes=peak if plan.has_peaks else None)


def comparisons(bench: Bench, workers: list[int]) -> list[PlannedComparison]:
    """All comparisons, the most important first. Precisions that the device does not have are left out."""
    block, warmup = bench.size["iterations"], bench.size["warmup"]
    suite = partial(partial, bench.suite)
    both = changed(bench.spec)
    precisions = [name for name in PRECISIONS if is_available(name, bench.device)]
    trained = cache(bench.suite)
    longer = LOADING_BLOCK * block

    def loading(number: int) -> LoadingArm:
        return LoadingArm(trained(), both, bench.images, number, longer)

    components: Arms = {
        "baseline": ("Faster R-CNN (matched control)", suite(both=False)),
        "both": ("Dynamic R-CNN", suite()),
    }
    peer: Arms = {
        "mmdet": ("mmdet's Dynamic R-CNN, trained as by mmengine's runner", partial(PeerArm, both, bench.device)),
        "suite": ("Dynamic R-CNN of this suite", suite()),
    }
    modes: Arms = {"off": ("deterministic: false", suite()), "on": ("deterministic: true", suite(deterministic=True))}
    loaders: Arms = {"loaded": ("images loaded before", trained)}
    loaders |= {f"workers_{n}": (f"workers: {n}", partial(loading, n)) for n in workers}
    few = -(-warmup // 10)
    return [
        PlannedComparison(COMPONENTS, "both components against the baseline", 0.4, components, block, warmup),
        PlannedComparison("peer", "this suite against mmdet's model, head and training step", 0.15, peer, block, few),
        PlannedComparison(
            "precision",
            "precisions, both components",
            0.2,
            {name: (f"precision: {name}", suite(precision=name)) for name in precisions},
            block,
            few,
        ),
        PlannedComparison("deterministic", "deterministic mode, both components", 0.1, modes, block, few),
        PlannedComparison("loading", "training while images are loaded", 0.15, loaders, longer, few, has_peaks=False),
    ]


def is_available(name: str, device: torch.device) -> bool:
    """Whether the device has a precision."""
    try:
        precision.configure({"precision": name, "deterministic": False}, device)
    except UserError:
        return False
    return True


def print_table(record: GpuTimes) -> None:
    """Print a row per arm: medians, and the mean ratio to the reference with its interval."""
    print(f"{'comparison':14} {'arm':10} {'s / iteration':>13} {'ratio':>6} {'90% interval':>16} {'peak MB':>8}")
    for name, each in record.comparisons.items():
        for arm in (arm for arm in each.arms if arm in each.seconds):
            seconds = each.seconds[arm]
            ratio = paired_ratio(seconds, each.seconds[each.reference])
            assert ratio is not None
            limits = "" if arm == each.reference else f"[{ratio.low:.3f}, {ratio.high:.3f}]"
            peak = f"{max(each.peaks[arm].values()) / 1e6:8.0f}" if arm in each.peaks else f"{'':8}"
            print(f"{name:14} {arm:10} {median(seconds.values()):13.4f} {ratio.value:6.3f} {limits:>16} {peak}")


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

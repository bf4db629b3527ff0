"""A timing run: what the arms of a grid cost in training and at inference, interleaved in one process.

Separate runs do not tell a difference of a few percent: clocks, neighbours and temperature move more than that. Here
all arms are in one process, and each round has a block of every arm in an order drawn from the seed, on the same
batches, from the same random state: what disturbs a round disturbs all of its arms, and their ratio stays.

Each arm does its `warmup` first, which is not timed. Images are loaded between the rounds, outside of all timing. A
block's clock starts and stops when the device has done what it was given. On a GPU a block also has the arm's peak
memory: what was allocated at most, less what all arms together hold between blocks, plus what this arm holds itself
(weights, buffers and momentum, as found while it was built). A CPU has no such counter.

Weights are the seed's, the backbone's where the model names some. Nothing is saved on the way: a run that is
interrupted, which it is within an iteration or while it builds an arm, starts over.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset, pseudo_collate

from dynamic_rcnn.engine import build
from dynamic_rcnn.engine import setup as start
from dynamic_rcnn.engine.seeding import derive
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.engine.timing_arms import InferenceArm, TrainingArm, same_networks
from dynamic_rcnn.engine.trainer import first_not_finite
from dynamic_rcnn.errors import InterruptedRunError, NaNLossError, UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.files import METRICS, remove_temporary, write_content
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.results import CPU, INFERENCE, TRAINING, InferenceTimes, TimingResults, TrainingTimes
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Record


class TimingRun:
    """A run that times arms. Its `iteration` is the number of blocks that it has done."""

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        if distributed.world_size() > 1:
            raise UserError(f"config.train.processes={spec.processes}: a timing run has one process; set it to 1")
        self.spec = spec
        self.stop = stop
        self.settings = spec.config["benchmark"]
        self.meter = Meter(start.device())
        stop.check()
        self.root, self.fingerprint = start.prepared(spec)
        stop.check()
        self.record = Record(Path(), spec.config["train"]["max_iters"])
        self.iteration = 0
        self.trained: dict[str, TrainingArm] = {}
        self.parts: dict[str, dict[str, Any]] = {}
        beat()

    def restore(self, note: str | None = None) -> None:
        """Start the attempt, from the beginning. note: what the attempt's record is to say besides."""
        remove_temporary(Path())
        self.record.start(0)
        if note:
            self.record.note(note)

    def write_provenance(self) -> None:
        """Record what it takes to repeat this attempt."""
        start.write_provenance(self.meter.device, self.fingerprint, None)

    def run(self) -> None:
        """Time both parts. Raises InterruptedRunError after an iteration, or an image's, if a signal has come."""
        self.stop.check()
        self.stop.only_note()
        self.parts[INFERENCE] = self._inference()
        self.parts[TRAINING] = self._training()

    def finish(self) -> None:
        """Write the result, which makes the run done."""
        results = TimingResults(
            iteration=self.iteration,
            baseline=self.settings["baseline"],
            device=self.meter.name,
            threads=torch.get_num_threads(),
            inference=InferenceTimes(**self.parts[INFERENCE]),
            training=TrainingTimes(**self.parts[TRAINING]),
        )
        write_content(Path(METRICS), results)
        self.record.end("done")

    def bad_loss(self) -> int | None:
        """The first iteration of any arm since the last check whose loss is not finite; waits for the device."""
        found = [bad for arm in self.trained.values() if (bad := first_not_finite(arm.losses)) is not None]
        for arm in self.trained.values():
            arm.losses.clear()
        return min(found, default=None)

    def _inference(self) -> dict[str, Any]:
        settings = self.settings[INFERENCE]
        images = build.build_dataset(self.spec, "val", self.root)
        warmup = loaded(images, 0, settings["warmup"])
        arms: dict[str, InferenceArm] = {}
        held: dict[str, int] = {}
        for name in self.spec.config["arms"]:
            self._check_stop()
            before = self.meter.allocated()
            arms[name] = InferenceArm(self._spec(name), self.meter.device)
            arms[name].calibrate(warmup)
            self._work(arms[name], warmup)
            held[name] = self.meter.allocated() - before
        self._check_stop()
        groups = same_networks({name: arm.model for name, arm in arms.items()}, warmup)
        size = settings["images"]
        blocks = self._rounds(INFERENCE, arms, held, lambda number: loaded(images, number * size, size))
        by_arm = {
            field: {name: getattr(arm, field) for name, arm in arms.items()}
            for field in ("proposals", "detections", "score_thr")
        }
        fixed = {"unit": "image", "block": size, "warmup": settings["warmup"]}
        return {**fixed, "same_network": groups, **by_arm, "blocks": blocks}

    def _training(self) -> dict[str, Any]:
        settings, train = self.settings[TRAINING], self.spec.config["train"]
        images = build.build_dataset(self.spec, "train", self.root)
        if len(images) == 0:
            raise UserError(f"{self.spec.dataset['train_ann']}: no image with a box of at least filter_cfg.min_size")
        # workers=0: processes that load ahead would take time from the block that is being timed
        grouped = train["group_by_aspect_ratio"]
        batches = build.Batches(images, self.spec.seed, train["batch_size"], 0, grouped)
        warmup, size = settings["warmup"], settings["iterations"]
        held: dict[str, int] = {}
        for name in settings["arms"]:
            self._check_stop()
            before = self.meter.allocated()
            self.trained[name] = TrainingArm(self._spec(name), self.meter.device)
            for first in range(0, warmup, size):
                self._work(self.trained[name], taken(batches, first, min(size, warmup - first)))
            self._check_losses()
            held[name] = self.meter.allocated() - before
        blocks = self._rounds(TRAINING, self.trained, held, lambda number: taken(batches, warmup + number * size, size))
        fixed = {"unit": "iteration", "block": size, "warmup": warmup, "batch_size": train["batch_size"]}
        return {**fixed, "blocks": blocks}

    def _rounds(
        self, part: str, arms: dict[str, Any], held: dict[str, int], load: Callable[[int], list[Any]]
    ) -> list[dict[str, Any]]:
        """The blocks of all rounds. load: the inputs of a round, the same for every arm."""
        blocks = []
        for number in range(self.settings[part]["rounds"]):
            inputs = load(number)
            for name in order(list(arms), self.spec.seed, part, number):
                seconds, peak = self.meter.time(partial(self._work, arms[name], inputs), held[name])
                blocks.append({"round": number, "arm": name, "seconds": seconds / len(inputs), "peak_bytes": peak})
                self._check_losses()
                self.iteration += 1
                print(f"{part}, round {number}, {name}: {seconds / len(inputs):.4f} s", flush=True)
            self.record.progress(self.iteration)
        return blocks

    def _check_losses(self) -> None:
        bad = self.bad_loss()
        if bad is not None:
            raise NaNLossError(f"the loss is not finite at iteration {bad}")

    def _work(self, arm: TrainingArm | InferenceArm, inputs: list[Any]) -> None:
        """The arm's work on `inputs`, one by one, until a signal comes."""
        for each in inputs:
            self._check_stop()
            arm.work(each)

    def _check_stop(self) -> None:
        if self.stop.received:
            raise InterruptedRunError(f"stopped by a signal after {self.iteration} blocks; it will start over")

    def _spec(self, arm: str) -> RunSpec:
        return replace(self.spec, config={**self.spec.config, "model": self.spec.config["arms"][arm]})


class Meter:
    """Time and peak memory of work on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.cuda else CPU

    def time(self, work: Callable[[], None], held: int) -> tuple[float, int | None]:
        """(seconds, peak bytes) of `work`. held: bytes that the arm at work holds before it begins."""
        before = self.allocated()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if self.cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        return seconds, torch.cuda.max_memory_allocated() - before + held if self.cuda else None

    def allocated(self) -> int:
        """Bytes that are in use on the device; 0 on a CPU."""
        gc.collect()  # what only cycles still hold
        if not self.cuda:
            return 0
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()


def order(arms: list[str], seed: int, part: str, number: int) -> list[str]:
    """The order of the arms in a round."""
    return random.Random(derive(seed, "order", part, number)).sample(arms, len(arms))


def taken(batches: build.Batches, first: int, count: int) -> list[Any]:
    """`count` training batches from the `first`-th on, over the ends of epochs."""
    found: list[Any] = []
    while len(found) < count:
        epoch, position = divmod(first + len(found), len(batches))
        found += islice(batches.from_position(epoch, position), count - len(found))
    return found


def loaded(images: BaseDataset, first: int, count: int) -> list[Any]:
    """`count` batches of one image from the `first`-th on; after the last image comes the first."""
    return [pseudo_collate([images[number % len(images)]]) for number in range(first, first + count)]

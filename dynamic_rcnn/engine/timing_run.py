"""A run that times the arms of a grid in training and at inference, interleaved in one process.

Separate runs cannot resolve a difference of a few percent: clocks, other jobs and temperature change more than that.
Here each round times one block of every arm, in an order drawn from the seed, on the same batches and from the same
random state. A disturbance slows all arms of a round, so their ratio is unaffected.

Each arm first does its `warmup`, which is not timed. Images are loaded between rounds, outside of all timing. The clock
of a block starts and stops with the device synchronised. On a GPU a block also has the arm's peak memory: the maximum
allocated, minus what all arms hold between blocks, plus what this arm holds (weights, buffers and momentum). A CPU has
no such counter.

Weights are random except those of a pretrained backbone. An interrupted run starts over.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset, pseudo_collate

from dynamic_rcnn.engine import build, start
from dynamic_rcnn.engine.ending import UncheckedLosses, raise_if_bad
from dynamic_rcnn.engine.seeding import derive
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.engine.timing_arms import InferenceArm, TrainingArm, group_same_networks
from dynamic_rcnn.errors import InterruptedRunError, UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.results import CPU, INFERENCE, TRAINING, InferenceTimes, TimingResults, TrainingTimes
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import StatusFile


class TimingRun(start.BaseRun):
    """A run that times arms; implements `train.Task`. `iteration` is the number of finished blocks."""

    def __init__(self, spec: RunSpec, stop: StopSignal, losses: UncheckedLosses) -> None:
        if distributed.world_size() > 1:
            raise UserError(f"config.train.processes={spec.processes}: a timing run has one process; set it to 1")
        super().__init__(spec, stop)
        self.losses = losses
        self.settings = spec.config["benchmark"]
        self.meter = Meter(self.device)
        self.record = StatusFile(Path(), spec.config["train"]["max_iters"])
        self.parts: dict[str, dict[str, Any]] = {}

    def restore(self, note: str | None) -> None:
        """Start the attempt, from the beginning."""
        self.start_attempt([note])
        self.write_provenance()

    def run(self) -> None:
        """Time both parts. A signal raises InterruptedRunError after an iteration or an image."""
        self.stop.check()
        self.stop.only_note()
        self.parts[INFERENCE] = self._time_inference()
        self.parts[TRAINING] = self._time_training()

    def finish(self) -> None:
        """Write metrics.json, which makes the run done."""
        results = TimingResults(
            iteration=self.iteration,
            baseline=self.settings["baseline"],
            device=self.meter.name,
            threads=torch.get_num_threads(),
            inference=InferenceTimes(**self.parts[INFERENCE]),
            training=TrainingTimes(**self.parts[TRAINING]),
        )
        self.write_results(results)

    def _time_inference(self) -> dict[str, Any]:
        settings = self.settings[INFERENCE]
        images = build.build_dataset(self.spec, "val", self.root)
        warmup = load_images(images, 0, settings["warmup"])
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
        groups = group_same_networks({name: arm.model for name, arm in arms.items()}, warmup)
        size = settings["images"]
        blocks = self._time_rounds(INFERENCE, arms, held, lambda number: load_images(images, number * size, size))
        by_arm = {
            field: {name: getattr(arm, field) for name, arm in arms.items()}
            for field in ("proposals", "detections", "score_thr")
        }
        fixed = {"unit": "image", "block": size, "warmup": settings["warmup"]}
        return {**fixed, "same_network": groups, **by_arm, "blocks": blocks}

    def _time_training(self) -> dict[str, Any]:
        settings, train = self.settings[TRAINING], self.spec.config["train"]
        images = build.build_dataset(self.spec, "train", self.root)
        if len(images) == 0:
            raise UserError(f"{self.spec.dataset['train_ann']}: no image with a box of at least filter_cfg.min_size")
        # workers=0: processes that load ahead would take time from the block that is being timed
        batches = build.Batches(images, self.spec.seed, {**train, "workers": 0}, range(1))
        warmup, size = settings["warmup"], settings["iterations"]
        arms: dict[str, TrainingArm] = {}
        held: dict[str, int] = {}
        for name in settings["arms"]:
            self._check_stop()
            before = self.meter.allocated()
            arms[name] = TrainingArm(self._spec(name), self.meter.device, self.losses)
            for first in range(0, warmup, size):
                self._work(arms[name], list(batches.between(first, min(first + size, warmup))))
            raise_if_bad(self.losses.first_bad())
            held[name] = self.meter.allocated() - before

        def load(number: int) -> list[Any]:
            return list(batches.between(warmup + number * size, warmup + (number + 1) * size))

        blocks = self._time_rounds(TRAINING, arms, held, load)
        fixed = {"unit": "iteration", "block": size, "warmup": warmup, "batch_size": train["images_per_group"]}
        return {**fixed, "blocks": blocks}

    def _time_rounds(
        self, part: str, arms: dict[str, Any], held: dict[str, int], load: Callable[[int], list[Any]]
    ) -> list[dict[str, Any]]:
        """Time all rounds. held: bytes that each arm holds; load: loads the inputs of a round, equal for all arms."""
        blocks = []
        for number in range(self.settings[part]["rounds"]):
            inputs = load(number)
            for name in draw_order(list(arms), self.spec.seed, part, number):
                seconds, peak = self.meter.time(partial(self._work, arms[name], inputs), held[name])
                blocks.append({"round": number, "arm": name, "seconds": seconds / len(inputs), "peak_bytes": peak})
                raise_if_bad(self.losses.first_bad())
                self.iteration += 1
                print(f"{part}, round {number}, {name}: {seconds / len(inputs):.4f} s", flush=True)
            self.record.progress(self.iteration)
        return blocks

    def _work(self, arm: TrainingArm | InferenceArm, inputs: list[Any]) -> None:
        """Have the arm process `inputs` one by one, until a signal arrives."""
        for each in inputs:
            self._check_stop()
            arm.work(each)

    def _check_stop(self) -> None:
        if self.stop.received:
            raise InterruptedRunError(f"stopped by a signal after {self.iteration} blocks; it will start over")

    def _spec(self, arm: str) -> RunSpec:
        return replace(self.spec, config={**self.spec.config, "model": self.spec.config["arms"][arm]})


class Meter:
    """Measures time and peak memory on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self.name = torch.cuda.get_device_name() if self.cuda else CPU

    def time(self, work: Callable[[], None], held: int) -> tuple[float, int | None]:
        """Run `work`. Returns its seconds and peak bytes (None on a CPU). held: bytes that the working arm holds."""
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
        """Bytes in use on the device; 0 on a CPU."""
        gc.collect()  # frees reference cycles
        if not self.cuda:
            return 0
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()


def draw_order(arms: list[str], seed: int, part: str, number: int) -> list[str]:
    """The random order of the arms in a round."""
    return random.Random(derive(seed, "order", part, number)).sample(arms, len(arms))


def load_images(images: BaseDataset, first: int, count: int) -> list[Any]:
    """Load `count` batches of one image each from number `first` on, starting over after the last image."""
    return [pseudo_collate([images[number % len(images)]]) for number in range(first, first + count)]

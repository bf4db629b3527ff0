"""The arms of `benchmarks.gpu`: this suite's training, mmdet's, and training while other processes load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.optim import build_optim_wrapper

from benchmarks.step import peer_model
from dynamic_rcnn.engine import build, precision
from dynamic_rcnn.engine.ending import UncheckedLosses
from dynamic_rcnn.engine.timing_arms import TrainingArm
from dynamic_rcnn.run.spec import RunSpec


class Arm(Protocol):
    """What takes turns."""

    def prepare(self) -> None:
        """Called before each block; not timed."""

    def work(self, batches: list[Any]) -> None:
        """Train an iteration on each batch."""


class SuiteArm:
    """An arm of this suite. Its precision and deterministic mode are flags of the process."""

    def __init__(self, spec: RunSpec, device: torch.device, losses: UncheckedLosses) -> None:
        self.settings, self.device = spec.config["train"], device
        self.prepare()
        self.arm = TrainingArm(spec, device, losses)

    def prepare(self) -> None:
        precision.configure(self.settings, self.device)

    def work(self, batches: list[Any]) -> None:
        for batch in batches:
            self.arm.work(batch)


class PeerArm:
    """mmdet's Dynamic R-CNN in fp32, trained as mmengine's runner does."""

    def __init__(self, spec: RunSpec, device: torch.device) -> None:
        self.settings, self.device = spec.config["train"], device
        self.model = peer_model(spec).to(device).train()
        self.optimizer = build_optim_wrapper(self.model, ConfigDict(spec.config["optim_wrapper"]))

    def prepare(self) -> None:
        precision.configure(self.settings, self.device)

    def work(self, batches: list[Any]) -> None:
        for (batch,) in batches:
            self.model.train_step(batch, self.optimizer)


class LoadingArm:
    """Trains `arm` while `workers` processes load its images. iterations: of a block."""

    def __init__(self, arm: SuiteArm, spec: RunSpec, images: BaseDataset, workers: int, iterations: int) -> None:
        settings = {**spec.config["train"], "workers": workers}
        self.arm, self.iterations = arm, iterations
        self.batches = build.Batches(images, spec.seed, settings, range(1))
        self.ahead = workers * settings["prefetch"]
        self.loader: Iterator[list[Any]] = iter(())

    def prepare(self) -> None:
        """Start loading, and train until no batch is left that was loaded while nothing trained."""
        self.arm.prepare()
        self.loader = self.batches.between(0, self.ahead + self.iterations)
        for _ in range(self.ahead):
            self.arm.work([next(self.loader)])

    def work(self, batches: list[Any]) -> None:
        """Train as many iterations as there are `batches`, on others that are being loaded."""
        for _ in batches:
            self.arm.work([next(self.loader)])

"""Training: the loop of one run, what it saves and how it goes on.

All randomness is a function of the seed and the iteration (`randomness`), batches are addressed by epoch and position
(`build`), and T, beta and their windows are in the checkpoint: an interrupted run continues bit for bit.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import torch

from dynamic_rcnn import build, checkpoint, dataset, results
from dynamic_rcnn.errors import InterruptedRunError, NaNLossError, UserError
from dynamic_rcnn.randomness import seed_all
from dynamic_rcnn.record import Record
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.directory import CHECKPOINTS, WEIGHTS, remove_temporary, write_bytes_atomic
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector


_START_AGAIN = "if that run is done, move its directory away and launch again: it is made again"


class Training:
    """One process's share of one run: the objects that training changes, and how they are saved and restored."""

    def __init__(self, run_dir: Path, spec: RunSpec) -> None:
        self.run_dir = run_dir
        self.spec = spec
        self.settings = spec.config["train"]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.root, self.fingerprint = dataset.prepare(spec.dataset)
        images = build.build_dataset(spec, "train", self.root)
        if len(images) == 0:
            raise UserError(f"{spec.dataset['train_ann']}: no image with a box of at least filter_cfg.min_size is left")
        self.batches = build.Batches(
            images,
            spec.seed,
            self.settings["batch_size"],
            self.settings["workers"],
            self.settings["group_by_aspect_ratio"],
        )
        self.model = self._built().to(self.device)
        if self.head.schedule.all_reduce:
            raise UserError(
                "dynamic_rcnn.all_reduce: true has no effect here, where one process trains a run; set it to false"
            )
        self.optimizer = build.build_optimizer(spec, self.model)
        self.schedulers = build.build_schedulers(spec, self.optimizer)
        self.max_iterations = self.settings["max_iters"] or self.settings["max_epochs"] * len(self.batches)
        self.record = Record(run_dir, self.max_iterations)
        self.iteration = 0
        self.stop_requested = False
        self.unchecked: list[tuple[int, torch.Tensor]] = []  # losses that no one has looked at yet

    def _built(self) -> BaseDetector:
        try:
            return build.build_model(self.spec)
        except URLError as error:
            source = self.spec.config["model"]["backbone"]["init_cfg"]
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise UserError(
                f"base.model.backbone.init_cfg={source}: cannot be downloaded here ({error.reason}); put the file into "
                f"{folder}, or set another one"
            ) from None

    @property
    def head(self) -> Any:
        return self.model.roi_head

    def restore(self) -> None:
        """Start the attempt: from the newest whole checkpoint, else from the run that `init` names, else as built."""
        for folder in (self.run_dir, self.run_dir / CHECKPOINTS):
            remove_temporary(folder)
        content, passed_over = checkpoint.load_newest(self.run_dir / CHECKPOINTS)
        if content is None:
            if self.spec.init is not None:
                self._load_start()
        else:
            if content["meta"]["run"] != self.spec.id:
                raise UserError(
                    f"{self.run_dir / CHECKPOINTS}: holds checkpoints of run {content['meta']['run']}; move them"
                )
            self.iteration = content["meta"]["iteration"]
            self.model.load_state_dict(content["state_dict"])
            self.optimizer.load_state_dict(content["optimizer"])
            for scheduler, state in zip(self.schedulers, content["param_schedulers"], strict=True):
                scheduler.load_state_dict(state)
            self.head.load_schedule(content["schedules"][0])
        self.record.start(self.iteration)
        self.record.forget_after(self.iteration)
        for line in passed_over:
            self.record.note(line)
        if self.iteration:
            self.record.note(f"resumed after iteration {self.iteration}")

    def write_provenance(self) -> None:
        """Record what it takes to repeat this attempt."""
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        sha256 = checkpoint.file_sha256(self._init_weights()) if self.spec.init else None
        found = provenance.collect(device, torch.get_num_threads(), self.fingerprint, sha256)
        provenance.write(self.run_dir, found)

    def _load_start(self) -> None:
        try:
            checkpoint.load_weights(self.model, self._init_weights())
        except UserError as error:
            raise UserError(str(error) if _START_AGAIN in str(error) else f"{error}; {_START_AGAIN}") from None

    def _init_weights(self) -> Path:
        assert self.spec.init is not None
        found = sorted(self.run_dir.parent.parent.glob(f"*/seed*-{self.spec.init['run']}/{WEIGHTS}"))
        if not found:
            start = self.spec.init["run"]
            raise UserError(f"the weights of run {start}, which this one starts from, are missing; {_START_AGAIN}")
        return found[0]

    def run(self) -> None:
        """Train from where the run stands to the end."""
        self.model.train()
        while self.iteration < self.max_iterations:
            epoch, position = divmod(self.iteration, len(self.batches))
            started, first = time.perf_counter(), self.iteration
            for batch in self.batches.from_position(epoch, position):
                logs = self._step(batch)
                if self._due("log_interval"):
                    seconds = (time.perf_counter() - started) / (self.iteration - first)
                    self._log(logs, seconds)
                    started, first = time.perf_counter(), self.iteration
                self._save_and_evaluate_if_due()
                if self.iteration == self.max_iterations:
                    break
        self.check_losses()

    def _step(self, batch: Any) -> dict[str, torch.Tensor]:
        seed_all(self.spec.seed, "iteration", self.iteration, 0)
        logs = self.model.train_step(batch, self.optimizer)
        self.iteration += 1
        self.unchecked.append((self.iteration, logs["loss"].detach()))
        end_of_epoch = self.iteration % len(self.batches) == 0
        for scheduler in self.schedulers:
            if end_of_epoch or not scheduler.by_epoch:
                scheduler.step()
        return logs

    def _due(self, interval: str) -> bool:
        every = self.settings[interval]
        return self.iteration == self.max_iterations or (every > 0 and self.iteration % every == 0)

    def check_losses(self) -> None:
        """Raise NaNLossError if one of the losses since the last check is not finite; waits for the device."""
        if not self.unchecked:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss in self.unchecked])).tolist()
        bad = [iteration for (iteration, _), good in zip(self.unchecked, finite, strict=True) if not good]
        self.unchecked.clear()
        if bad:
            raise NaNLossError(f"the loss is not finite at iteration {bad[0]}")

    def check_finite(self) -> None:
        """Raise NaNLossError if a loss or a weight is not finite; waits for the device."""
        self.check_losses()
        try:
            checkpoint.check_finite(self.model)
        except NaNLossError as error:
            raise NaNLossError(f"{error} after iteration {self.iteration}") from None

    def _log(self, logs: dict[str, torch.Tensor], seconds: float) -> None:
        self.check_losses()
        losses = {name: float(value.detach()) for name, value in logs.items()}
        rate = float(self.optimizer.get_lr()["lr"][0])
        row = {"iteration": self.iteration, **losses, "lr": rate, **self.head.in_force(), **self.head.statistics()}
        self.record.log({**row, "seconds": seconds})
        self.record.progress(self.iteration)

    def _save_and_evaluate_if_due(self) -> None:
        """Evaluate first: a run killed in between comes back to before this iteration, and evaluates again."""
        if self.settings["val_interval"] and self._due("val_interval") and self.iteration < self.max_iterations:
            results.evaluate_now(self.run_dir, self.spec, self.model, self.root, self.iteration)
        if self._due("checkpoint_interval") or self.stop_requested:
            self.save()
        if self.stop_requested and self.iteration < self.max_iterations:
            raise InterruptedRunError(f"stopped by a signal after iteration {self.iteration}")

    def save(self) -> None:
        """Write a checkpoint of this iteration; never one of weights that a NaN has reached."""
        self.check_finite()
        schedules = [self.head.schedule.state_dict()]
        content = checkpoint.pack(self.spec.id, self.iteration, self.model, self.optimizer, self.schedulers, schedules)
        checkpoint.save(self.run_dir / CHECKPOINTS, content, self.settings["keep_checkpoints"])
        self.record.progress(self.iteration)

    def finish(self) -> None:
        """Evaluate the final weights and write the results; metrics.json comes last and makes the run done."""
        weights = {"meta": {"run": self.spec.id, "iteration": self.iteration}, "state_dict": self.model.state_dict()}
        write_bytes_atomic(self.run_dir / WEIGHTS, checkpoint.serialise(weights))
        results.write(self.run_dir, self.spec, self.model, self.root, self.iteration)
        checkpoint.remove_all(self.run_dir / CHECKPOINTS)
        self.record.end("done")

"""Training: the loop of one run, what it saves and how it goes on.

All randomness is a function of the seed, the iteration and the rank (`randomness`), batches are addressed by epoch and
position (`build`), and T, beta and their windows are in the checkpoint, each process's own: an interrupted run
continues bit for bit.

The working directory is the run directory, and every path is relative to it: see `run.claim`. Of several processes only
rank 0 writes. A row of train.jsonl holds T, beta, their statistics and the counts of rank 0, and the mean of the
processes' losses; the seconds an iteration are rank 0's, for whom every other process waits.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel

from dynamic_rcnn.engine import build, checkpoint, results
from dynamic_rcnn.engine import setup as start
from dynamic_rcnn.engine.seeding import seed_all
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import InterruptedRunError, NaNLossError, UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.digest import file_digest
from dynamic_rcnn.run.files import CHECKPOINTS, METRICS, WEIGHTS, remove_temporary, write_content
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.status import Record


class Training:
    """One process's share of one run: the objects that training changes, and how they are saved and restored."""

    def __init__(self, spec: RunSpec, stop: StopSignal) -> None:
        self.spec = spec
        self.stop = stop
        self.settings = spec.config["train"]
        self.device = start.device()
        stop.check()
        self.root, self.fingerprint = start.prepared(spec)
        stop.check()
        beat()
        images = build.build_dataset(spec, "train", self.root)
        if len(images) == 0:
            raise UserError(f"{spec.dataset['train_ann']}: no image with a box of at least filter_cfg.min_size is left")
        rate = spec.config["optim_wrapper"]["optimizer"]["lr"]
        self.batches = build.Batches(
            images,
            spec.seed,
            images_per_process(self.settings["batch_size"], distributed.world_size(), rate),
            self.settings["workers"],
            self.settings["group_by_aspect_ratio"],
        )
        self.model = start.built(spec).to(self.device)
        if self.head.schedule.all_reduce and distributed.world_size() == 1:
            raise UserError(
                "dynamic_rcnn.all_reduce: true has no effect here, where one process trains a run; set it to false"
            )
        held = start.replayed(spec)
        if held is not None:
            self.head.fix_schedule(*held)
        self.optimizer = build.build_optimizer(spec, self.model)
        self.schedulers = build.build_schedulers(spec, self.optimizer)
        self.max_iterations = self.settings["max_iters"] or self.settings["max_epochs"] * len(self.batches)
        self.record = Record(Path(), self.max_iterations)
        self.iteration = 0
        self.unchecked: list[tuple[int, torch.Tensor]] = []  # losses that no one has looked at yet
        beat()

    @property
    def head(self) -> Any:
        return self.model.roi_head

    def restore(self, note: str | None = None) -> None:
        """Start the attempt: from the newest whole checkpoint, else from the run that `init` names, else as built.

        Rank 0 reads, and hands what it read to the others: shared file systems may show files to them late.
        note: what the attempt's record is to say besides.
        """
        notes = [note] if note else []
        data = None
        if distributed.is_main():
            for folder in (Path(), Path(CHECKPOINTS)):
                remove_temporary(folder)
            data, passed_over = checkpoint.read_newest(Path(CHECKPOINTS))
            notes += passed_over
        data = distributed.broadcast(data)
        if data is not None:
            self._load(checkpoint.deserialise(data))
        elif self.spec.init is not None and distributed.is_main():
            start.load_start(self.model, self.spec)
        self.trained = self._wrapped()
        if distributed.is_main():
            self.record.start(self.iteration)
            self.record.forget_after(self.iteration)
            for line in [*notes, f"resumed after iteration {self.iteration}"] if self.iteration else notes:
                self.record.note(line)
        beat()

    def _load(self, content: dict[str, Any]) -> None:
        run, schedules = content["meta"]["run"], content["schedules"]
        if run != self.spec.id or len(schedules) != distributed.world_size():
            processes = f" with {len(schedules)} processes" if run == self.spec.id else ""
            raise UserError(f"{Path(CHECKPOINTS).resolve()}: holds checkpoints of run {run}{processes}; move them")
        self.iteration = content["meta"]["iteration"]
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        for scheduler, state in zip(self.schedulers, content["param_schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self.head.load_schedule(schedules[distributed.rank()])

    def _wrapped(self) -> Any:
        """The model as `train_step` needs it: with several processes, averaging their gradients.

        The wrapper gives every process rank 0's weights now, and rank 0's buffers before each iteration: a checkpoint
        holds rank 0's. Without find_unused_parameters it would arrange its buckets anew after the first iteration, in
        the order in which gradients came, and with them the order of summation: an iteration after a resume would not
        be, bit for bit, what it is in a run that was never interrupted.
        """
        if distributed.world_size() == 1:
            return self.model
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
        return MMDistributedDataParallel(self.model, device_ids=devices, find_unused_parameters=True)

    def write_provenance(self) -> None:
        """Record what it takes to repeat this attempt."""
        sha256 = file_digest(start.start_weights(self.spec)) if self.spec.init and distributed.is_main() else None
        start.write_provenance(self.device, self.fingerprint, sha256)

    def run(self) -> None:
        """Train from where the run stands to the end. Raises InterruptedRunError after an iteration's checkpoint."""
        self.stop.check()
        self.stop.only_note()
        self.model.train()
        if self._evaluation_due() and not distributed.broadcast(results.is_evaluated(self.iteration)):
            self._evaluate()  # what was killed after saving this iteration
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
        seed_all(self.spec.seed, "iteration", self.iteration, distributed.rank())
        logs: dict[str, torch.Tensor] = self.trained.train_step(batch, self.optimizer)
        self.iteration += 1
        self.unchecked.append((self.iteration, logs["loss"].detach()))
        end_of_epoch = self.iteration % len(self.batches) == 0
        for scheduler in self.schedulers:
            if end_of_epoch or not scheduler.by_epoch:
                scheduler.step()
        beat()
        return logs

    def _due(self, interval: str) -> bool:
        every = self.settings[interval]
        return self.iteration == self.max_iterations or (every > 0 and self.iteration % every == 0)

    def _evaluation_due(self) -> bool:
        """Whether to evaluate in the midst of training; the final weights are for `finish`."""
        return 0 < self.iteration < self.max_iterations and self._due("val_interval")

    def bad_loss(self) -> int | None:
        """The first iteration since the last check whose loss is not finite on this process; waits for the device."""
        bad = first_not_finite(self.unchecked)
        self.unchecked.clear()
        return bad

    def check_losses(self) -> None:
        """Raise NaNLossError, on all processes, if a loss since the last check is not finite on one of them."""
        bad = distributed.earliest(self.bad_loss())
        if bad is not None:
            raise NaNLossError(f"the loss is not finite at iteration {bad}")

    def check_finite(self) -> None:
        """Raise NaNLossError, on all processes, if a loss or a weight is not finite; waits for the device."""
        self.check_losses()
        fault = None
        try:
            checkpoint.check_finite(self.model)
        except NaNLossError as error:
            fault = f"{error} after iteration {self.iteration}"
        fault = distributed.broadcast(fault)
        if fault is not None:
            raise NaNLossError(fault)

    def _log(self, logs: dict[str, torch.Tensor], seconds: float) -> None:
        self.check_losses()
        losses = distributed.mean({name: float(value.detach()) for name, value in logs.items()})
        if distributed.is_main():
            rate = float(self.optimizer.get_lr()["lr"][0])
            row = {"iteration": self.iteration, **losses, "lr": rate, **self.head.current_thresholds()}
            row |= self.head.statistics.summary()
            self.record.log({**row, "seconds": seconds})
            self.record.progress(self.iteration)

    def _save_and_evaluate_if_due(self) -> None:
        """Save before evaluating, which may take long: a run that is killed there evaluates when it is resumed."""
        stop = distributed.any_of(self.stop.received)
        evaluate = self._evaluation_due()
        if self._due("checkpoint_interval") or evaluate or stop:
            self.save()
        if stop and self.iteration < self.max_iterations:
            raise InterruptedRunError(f"stopped by a signal after iteration {self.iteration}")
        if evaluate:
            self._evaluate()

    def _evaluate(self) -> None:
        with self.stop.at_once(f"in the evaluation after iteration {self.iteration}"):
            results.evaluate_now(self.spec, self.model, self.root, self.iteration)

    def save(self) -> None:
        """Write a checkpoint of this iteration; never one of weights that a NaN has reached."""
        self.check_finite()
        schedules = distributed.gather(self.head.schedule.state_dict())
        if schedules is not None:
            parts = (self.model, self.optimizer, self.schedulers, schedules)
            content = checkpoint.pack(self.spec.id, self.iteration, *parts)
            checkpoint.save(Path(CHECKPOINTS), content, self.settings["keep_checkpoints"])
            self.record.progress(self.iteration)

    def finish(self) -> None:
        """Evaluate the final weights and write the results; metrics.json comes last and makes the run done."""
        with self.stop.at_once("in the evaluation after the last iteration"):
            if distributed.is_main():
                checkpoint.save_weights(Path(WEIGHTS), self.spec.id, self.iteration, self.model)
            metrics = results.final(self.spec, self.model, self.root, self.iteration)
        if metrics is not None:
            self.record.progress(self.iteration)
            write_content(Path(METRICS), metrics)
            checkpoint.remove_all(Path(CHECKPOINTS))
            self.record.end("done")


def first_not_finite(losses: list[tuple[int, torch.Tensor]]) -> int | None:
    """The first iteration whose loss is not finite; waits for the device. losses: (iteration, scalar)."""
    if not losses:
        return None
    finite = torch.isfinite(torch.stack([loss for _, loss in losses])).tolist()
    return next((iteration for (iteration, _), good in zip(losses, finite, strict=True) if not good), None)

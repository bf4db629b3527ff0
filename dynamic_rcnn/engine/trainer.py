"""A run that trains: its loop, and what it saves and restores.

An interrupted run continues bit for bit: all randomness is a function of the seed, the iteration and the rank
(`seeding`), batches are addressed by iteration (`build`), and a checkpoint holds T, beta and their windows of
every process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dynamic_rcnn.engine import build, checkpoint, results, start
from dynamic_rcnn.engine.ending import UncheckedLosses, raise_if_bad
from dynamic_rcnn.engine.pace import Pace
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step, dynamic_heads
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import InterruptedRunError, NaNLossError, NoPositivesError, UserError
from dynamic_rcnn.parallel import comm as distributed
from dynamic_rcnn.run.batch import groups_per_process
from dynamic_rcnn.run.files import CHECKPOINTS, SCHEMA, WEIGHTS, file_digest, remove_temporary
from dynamic_rcnn.run.heartbeat import beat
from dynamic_rcnn.run.reuse import read_trained
from dynamic_rcnn.run.spec import EPOCH, RunSpec
from dynamic_rcnn.run.status import StatusFile
from dynamic_rcnn.run.train_log import sum_stages

_MOST_WITHOUT_POSITIVES = 100  # iterations


class TrainingRun(start.BaseRun):
    """One process's share of the training; implements `train.Task`."""

    def __init__(self, spec: RunSpec, stop: StopSignal, losses: UncheckedLosses) -> None:
        super().__init__(spec, stop)
        self.losses = losses
        self.settings = spec.config["train"]
        images = build.build_dataset(spec, "train", self.root)
        if len(images) == 0:
            raise UserError(f"{spec.dataset['train_ann']}: no image with a box of at least filter_cfg.min_size is left")
        self.own_groups = own_groups(self.settings["groups"])
        self.batches = build.Batches(images, spec.seed, self.settings, self.own_groups)
        self.model = build.build_model(spec).to(self.device)
        self.heads = dynamic_heads(self.model)
        replayed = start.read_replayed(spec)
        for head in self.heads:
            if head.all_reduce and self.settings["groups"] == 1:
                raise UserError("dynamic_rcnn.all_reduce: true has no effect with base.train.groups=1; set it to false")
            head.set_groups(len(self.own_groups))
            if replayed is not None:
                head.replay(replayed)
        self.optimizer = build.build_optimizer(spec, self.model)
        self.schedulers = build.build_schedulers(spec, self.optimizer)
        self.precision = Precision(self.settings["precision"], self.device)
        self.max_iterations = self.settings["max_iters"] or self.settings["max_epochs"] * len(self.batches)
        self.record = StatusFile(Path(), self.max_iterations)
        self.pace = Pace(self.device)
        self.first = self.positives = 0  # the iteration that this attempt continues after, and its positives so far
        beat()

    def restore(self, note: str | None) -> None:
        """Start from the newest intact checkpoint, the final weights, the run in `spec.init`, or the initial weights.

        Rank 0 reads and broadcasts, because shared file systems may show files to other machines late.
        """
        data: bytes | None = None
        damaged: list[str] = []
        if distributed.is_main():
            remove_temporary(Path(CHECKPOINTS))
            data, damaged = checkpoint.read_newest(Path(CHECKPOINTS))
        data = distributed.broadcast(data)
        reused = self._load_final_weights() if data is None else None
        if data is not None:
            self._load(checkpoint.deserialise(data))
        elif reused is not None:
            self.iteration = self.max_iterations
        elif self.spec.init is not None and distributed.is_main():
            start.load_start_weights(self.model, self.spec)
        distributed.broadcast_tensors(self.model.state_dict().values())
        self.model.train()  # before the step, which looks for running statistics
        groups = self.settings["groups"]
        self.step = Step(self.model, self.optimizer, self.precision, self.spec.seed, groups, self.own_groups)
        sha256 = None
        if distributed.is_main():
            resumed = f"resumed after iteration {self.iteration}" if self.iteration else None
            self.start_attempt([note, *damaged, reused or resumed])
            self.record.forget_after(self.iteration)
            sha256 = file_digest(start.find_start_weights(self.spec)) if self.spec.init else None
        self.write_provenance(sha256)
        self.first = self.iteration
        beat()

    def _load_final_weights(self) -> str | None:
        """Load the weights of a training that is complete. Returns a note for all processes; None if it is not."""
        note = None
        if distributed.is_main():
            trained = read_trained(Path())
            runs = {self.spec.id, trained.run if trained else self.spec.id}
            if checkpoint.is_complete(Path(WEIGHTS), runs, self.max_iterations):
                checkpoint.load_weights(self.model, Path(WEIGHTS))
                note = "the training is complete: only the evaluation is repeated"
            if note is not None and trained is not None:
                found = f"fingerprint {self.fingerprint[:10]}, was {trained.dataset_fingerprint[:10]}"
                note += f"; the validation annotations changed since run {trained.run} trained the weights ({found})"
        return distributed.broadcast(note)

    def _load(self, content: dict[str, Any]) -> None:
        run = content["meta"]["run"]
        if run != self.spec.id:
            raise UserError(f"{Path(CHECKPOINTS).resolve()}: holds checkpoints of run {run}; move them")
        self.iteration = content["meta"]["iteration"]
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        for scheduler, state in zip(self.schedulers, content["param_schedulers"], strict=True):
            scheduler.load_state_dict(state)
        self.precision.load_state_dict(content["scaler"])
        own = self.own_groups
        for head in self.heads:
            stages = len(head.stages)
            head.load_schedules(content["schedules"][own.start * stages : own.stop * stages])

    def run(self) -> None:
        """Train to the last iteration. A signal raises InterruptedRunError after an iteration and its checkpoint."""
        self.stop.check()
        self.stop.only_note()
        if self._evaluation_due() and not distributed.broadcast(results.is_evaluated(self.iteration)):
            self._evaluate()  # the previous attempt was killed between this iteration's checkpoint and its evaluation
        for batches in self.pace.timed(self.batches.between(self.iteration, self.max_iterations)):
            logs = self._train_iteration(batches)
            if self._due("log_interval"):
                self._log(logs)
            self._save_and_evaluate_if_due()
        self._check_losses()

    def _train_iteration(self, batches: list[Any]) -> dict[str, torch.Tensor]:
        logs = self.step.train(self.iteration, batches)
        self.iteration += 1
        self.losses.add(self.iteration, logs["loss"])
        self._check_positives()
        end_of_epoch = self.iteration % len(self.batches) == 0
        for scheduler in self.schedulers:
            if end_of_epoch or not scheduler.by_epoch:
                scheduler.step()
        beat()
        return logs

    def _check_positives(self) -> None:
        """Raise NoPositivesError on all processes if none had a positive in this attempt: it trains on nothing."""
        self.positives += sum(len(head.statistics.targets) for head in self.heads)
        due = self.iteration - self.first == min(_MOST_WITHOUT_POSITIVES, self.max_iterations)
        if self.heads and due and not distributed.any_of(self.positives > 0):
            span = f"iterations {self.first + 1} to {self.iteration} have no positives"
            advice = "no ground-truth box reaches the RoI head; action=doctor checks the annotations"
            raise NoPositivesError(f"{span}: {advice}")

    def _due(self, interval: str) -> bool:
        every = len(self.batches) if self.settings[interval] == EPOCH else self.settings[interval]
        return self.iteration == self.max_iterations or (every > 0 and self.iteration % every == 0)

    def _evaluation_due(self) -> bool:
        """Whether to evaluate after this iteration; `finish` evaluates the final weights."""
        return 0 < self.iteration < self.max_iterations and self._due("val_interval")

    def _check_losses(self) -> None:
        """Raise NaNLossError on all processes if a loss since the last check is not finite on one of them."""
        raise_if_bad(distributed.earliest(self.losses.first_bad()))

    def _check_finite(self) -> None:
        """Raise NaNLossError on all processes if a loss or a weight is not finite; waits for the device."""
        self._check_losses()
        fault = None
        try:
            checkpoint.check_finite(self.model)
        except NaNLossError as error:
            fault = f"{error} after iteration {self.iteration}"
        fault = distributed.broadcast(fault)
        if fault is not None:
            raise NaNLossError(fault)

    def _log(self, logs: dict[str, torch.Tensor]) -> None:
        self._check_losses()
        losses = distributed.mean({name: float(value.detach()) for name, value in logs.items()})
        measured = self.pace.row()
        if measured is not None:
            rate = float(self.optimizer.get_lr()["lr"][0])
            row = {"iteration": self.iteration, **losses, **sum_stages(losses), "lr": rate}
            for head in self.heads:
                row |= head.current_thresholds() | head.statistics.summary()
            self.record.log({**row, **measured})
            self.record.progress(self.iteration)

    def _save_and_evaluate_if_due(self) -> None:
        """Save before evaluating, so that a run that is killed during an evaluation repeats it when resumed."""
        stop = distributed.any_of(self.stop.received)
        evaluate = self._evaluation_due()
        if self._due("checkpoint_interval") or evaluate or stop:
            self._save()
        if stop and self.iteration < self.max_iterations:
            raise InterruptedRunError(f"stopped by a signal after iteration {self.iteration}")
        if evaluate:
            self._evaluate()

    def _evaluate(self) -> None:
        with self.pace.paused(), self.stop.at_once(f"in the evaluation after iteration {self.iteration}"):
            results.evaluate_during_training(self.spec, self.model, self.root, self.iteration)

    def _save(self) -> None:
        """Write a checkpoint, unless a weight is not finite."""
        self._check_finite()
        schedules = distributed.gather([each.state_dict() for head in self.heads for each in head.schedules])
        if schedules is not None:
            content = {
                "meta": {"schema": SCHEMA, "run": self.spec.id, "iteration": self.iteration},
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "param_schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
                "scaler": self.precision.state_dict(),
                "schedules": [state for of_process in schedules for state in of_process],
            }
            checkpoint.save(Path(CHECKPOINTS), content, self.settings["keep_checkpoints"])
            self.record.progress(self.iteration)

    def finish(self) -> None:
        """Evaluate the final weights and write the results. metrics.json, which makes the run done, comes last."""
        with self.stop.at_once("in the evaluation after the last iteration"):
            if distributed.is_main():
                checkpoint.save_weights(Path(WEIGHTS), self.spec.id, self.iteration, self.model)
            metrics = results.evaluate_final(self.spec, self.model, self.root, self.iteration)
        self.write_results(metrics)


def own_groups(groups: int) -> range:
    """The numbers of the groups that this process trains, of `groups` in all."""
    count = groups_per_process(groups, distributed.world_size())
    return range(distributed.rank() * count, (distributed.rank() + 1) * count)

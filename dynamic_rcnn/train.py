"""Train and evaluate one run: `python -m dynamic_rcnn.train RUN_DIR`, where RUN_DIR holds a spec.json.

Resumes from the newest whole checkpoint and continues bit for bit (on the same machine and number of threads).
Exit codes: 0 done, 1 failed (status.json has the cause), 2 bad input, 75 another process trains this run,
130 interrupted by a signal (a checkpoint of that iteration is written; calling again goes on).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from dynamic_rcnn import build, checkpoint, dataset, results
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.randomness import seed_all
from dynamic_rcnn.record import Record
from dynamic_rcnn.run import provenance
from dynamic_rcnn.run.directory import CHECKPOINTS, METRICS, WEIGHTS, RunLockedError, locked, write_bytes_atomic
from dynamic_rcnn.run.spec import RunSpec

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_LOCKED, EXIT_INTERRUPTED = 0, 1, 2, 75, 130


class NaNLossError(Exception):
    """The loss of an iteration is not finite."""


class InterruptedRunError(Exception):
    """A signal asked the run to stop; its checkpoint is written."""


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
        self.model = build.build_model(spec).to(self.device)
        self.optimizer = build.build_optimizer(spec, self.model)
        self.schedulers = build.build_schedulers(spec, self.optimizer)
        self.max_iterations = self.settings["max_iters"] or self.settings["max_epochs"] * len(self.batches)
        self.record = Record(run_dir, self.max_iterations)
        self.iteration = 0
        self.stop_requested = False
        self.unchecked: list[tuple[int, torch.Tensor]] = []  # losses that no one has looked at yet

    @property
    def head(self) -> Any:
        return self.model.roi_head

    def restore(self) -> None:
        """Start the attempt: from the newest whole checkpoint, else from the run that `init` names, else as built."""
        content, passed_over = checkpoint.load_newest(self.run_dir / CHECKPOINTS)
        if content is None:
            if self.spec.init is not None:
                checkpoint.load_weights(self.model, self._init_weights())
        else:
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

    def _init_weights(self) -> Path:
        assert self.spec.init is not None
        found = sorted(self.run_dir.parent.parent.glob(f"*/seed*-{self.spec.init['run']}/{WEIGHTS}"))
        if not found:
            raise UserError(f"the weights this run starts from are missing: run {self.spec.init['run']} is not done")
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
        self._check_losses()

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

    def _check_losses(self) -> None:
        """Raise NaNLossError if one of the losses since the last check is not finite; waits for the device."""
        if not self.unchecked:
            return
        finite = torch.isfinite(torch.stack([loss for _, loss in self.unchecked])).tolist()
        bad = [iteration for (iteration, _), good in zip(self.unchecked, finite, strict=True) if not good]
        self.unchecked.clear()
        if bad:
            raise NaNLossError(f"the loss is not finite at iteration {bad[0]}")

    def _log(self, logs: dict[str, torch.Tensor], seconds: float) -> None:
        self._check_losses()
        losses = {name: float(value) for name, value in logs.items()}
        rate = float(self.optimizer.get_lr()["lr"][0])
        row = {"iteration": self.iteration, **losses, "lr": rate, **self.head.in_force(), **self.head.statistics()}
        self.record.log({**row, "seconds": seconds})
        self.record.progress(self.iteration)

    def _save_and_evaluate_if_due(self) -> None:
        if self._due("checkpoint_interval") or self.stop_requested:
            self.save()
        if self.settings["val_interval"] and self._due("val_interval") and self.iteration < self.max_iterations:
            results.evaluate_now(self.run_dir, self.spec, self.model, self.root, self.iteration)
        if self.stop_requested and self.iteration < self.max_iterations:
            raise InterruptedRunError(f"stopped by a signal after iteration {self.iteration}")

    def save(self) -> None:
        """Write a checkpoint of this iteration; never one of weights that a NaN has reached."""
        self._check_losses()
        schedules = [self.head.schedule.state_dict()]
        content = checkpoint.pack(self.spec.id, self.iteration, self.model, self.optimizer, self.schedulers, schedules)
        checkpoint.save(self.run_dir / CHECKPOINTS, content, self.settings["keep_checkpoints"])
        self.record.progress(self.iteration)

    def finish(self) -> None:
        """Evaluate the final weights and write the results; metrics.json comes last and makes the run done."""
        weights = {"meta": {"run": self.spec.id, "iteration": self.iteration}, "state_dict": self.model.state_dict()}
        write_bytes_atomic(self.run_dir / WEIGHTS, checkpoint.serialise(weights))
        results.write(self.run_dir, self.spec, self.model, self.root, self.iteration)
        self.record.end("done")
        checkpoint.clean(self.run_dir / CHECKPOINTS, keep_weights=self.run_dir / WEIGHTS)


def train(run_dir: Path) -> int:
    """Train the run in `run_dir` to the end, under its lock. Returns the exit code."""
    spec = RunSpec.read(run_dir)
    with locked(run_dir):
        if (run_dir / METRICS).exists():
            return EXIT_DONE
        checkpoint.clean(run_dir / CHECKPOINTS)
        record = Record(run_dir, 0)
        training: Training | None = None
        try:
            training = Training(run_dir, spec)
            record = training.record
            _stop_on_signals(training)
            training.restore()
            _write_provenance(training)
            training.run()
            training.finish()
            return EXIT_DONE
        except InterruptedRunError as error:
            return _failed(record, "interrupted", str(error), EXIT_INTERRUPTED)
        except Exception as error:
            return _failed(record, *_cause(error, training))


def _cause(error: Exception, training: Training | None) -> tuple[str, str, int]:
    """(cause, one line, exit code) of an exception, after printing its traceback where that helps."""
    if training is not None and not isinstance(error, NaNLossError):
        try:
            training._check_losses()  # an operator that chokes on NaN is not the cause
        except NaNLossError as nan:
            error = nan
    if isinstance(error, NaNLossError):
        return "NaN", str(error), EXIT_FAILED
    if isinstance(error, UserError):
        return "bad input", str(error), EXIT_BAD_INPUT
    line = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return "disk", f"{line}; free some space or choose another runs=", EXIT_FAILED
    traceback.print_exc()
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in line
    return ("out of memory" if memory else "error"), line, EXIT_FAILED


def _failed(record: Record, cause: str, message: str, code: int) -> int:
    print(f"{cause}: {message}", file=sys.stderr, flush=True)
    try:
        if not record.started:  # it failed before it knew where to go on
            record.start(0)
        record.end(cause, message)
    except OSError as error:
        print(f"the status could not be written: {error}", file=sys.stderr)
    return code


def _stop_on_signals(training: Training) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        training.stop_requested = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _write_provenance(training: Training) -> None:
    device = torch.cuda.get_device_name() if training.device.type == "cuda" else "cpu"
    sha256 = checkpoint.file_sha256(training._init_weights()) if training.spec.init else None
    record = provenance.collect(device, torch.get_num_threads(), training.fingerprint, sha256)
    provenance.write(training.run_dir, record)


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m dynamic_rcnn.train RUN_DIR   (a directory with a spec.json)", file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        return train(Path(os.path.realpath(sys.argv[1])))
    except RunLockedError as error:
        print(error, file=sys.stderr)
        return EXIT_LOCKED
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())

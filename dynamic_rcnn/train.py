"""Train, evaluate or time one run, as its spec.json specifies.

    python -m dynamic_rcnn.train RUN_DIR

Training resumes from the newest intact checkpoint and continues bit for bit on the same kind of machine and number of
threads. Evaluations and timing runs start over.
If base.train.processes is above 1, this command starts that many processes on this machine, one per GPU if there are
GPUs. In a Slurm job the tasks are the processes, as RANK in their environment specifies.
Exit codes: 0 done, 1 failed (status.json has the cause), 2 bad input, 75 another process trains this run or has taken
it over, 76 another process of this run died (the process that knows the cause records it), 130 interrupted by a
signal (a checkpoint of that iteration is written; calling again resumes).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dynamic_rcnn import cli
from dynamic_rcnn.engine import ending
from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.parallel.processes import run_processes
from dynamic_rcnn.parallel.rank import EXIT_LOCKED, Rank
from dynamic_rcnn.run.batch import groups_per_process
from dynamic_rcnn.run.claim import Claim, claimed
from dynamic_rcnn.run.files import METRICS, SPEC
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.process_env import ProcessEnv
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, ID_DIGITS, PRETRAIN, RunSpec
from dynamic_rcnn.run.status import StatusFile
from dynamic_rcnn.run.worker import end_with_parent

EXIT_DONE = 0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Task(Protocol):
    """What one process does for a run. Called in this order; an exception ends the attempt."""

    record: StatusFile

    def restore(self, note: str | None) -> None:
        """Start the attempt and record its provenance. note: added to the attempt's record."""

    def run(self) -> None:
        """Do the work."""

    def finish(self) -> None:
        """Write metrics.json, which makes the run done."""


def train(run_dir: Path) -> int:
    """Finish the run in `run_dir` while holding its claim. Returns the exit code."""
    spec = RunSpec.read(run_dir)
    if ProcessEnv.from_env().claimed:
        end_with_parent(signal.SIGTERM)  # the parent holds the claim
        return _train(spec, None)
    with claimed(run_dir) as claim:
        return _train(spec, claim)


def _train(spec: RunSpec, claim: Claim | None) -> int:
    """Like `train`, in the run's directory. claim: None if the parent process holds it."""
    record, me, stop, losses = StatusFile.open(Path()), Rank(), StopSignal(), ending.UncheckedLosses()
    try:
        given = Rank.from_env()
        me = given or me
        _check_directory(spec)
        if me.size == 1 and Path(METRICS).exists():
            StatusFile.close_done(Path())
            return EXIT_DONE
        if spec.task != EVALUATE:
            groups_per_process(spec.config["train"]["groups"], spec.processes)
        if given is None and spec.processes > 1:
            return run_processes(spec.processes, claim)
        me.check(spec.processes)
        stop.install()
        from dynamic_rcnn.parallel import comm as distributed

        distributed.join(me, stop.check)
        if not distributed.broadcast(Path(METRICS).exists()):
            note = _check_node(spec, claim.note if claim else ProcessEnv.from_env().note)
            task = _create_task(spec, stop, losses)
            record = task.record
            task.restore(note)
            task.run()
            task.finish()
        elif distributed.is_main():
            StatusFile.close_done(Path())
        distributed.leave()
        return EXIT_DONE
    except Exception as error:
        stop.only_note()
        return ending.conclude(ending.classify(error, me, losses, stop.received), me, record)


def _check_node(spec: RunSpec, note: str | None) -> str | None:
    """Run the preflight, if it was asked for. Returns the attempt's note with its result."""
    if not ProcessEnv.from_env().preflight:
        return note
    from dynamic_rcnn.engine import precision, preflight, start

    precision.configure(spec.config["train"], start.select_device())  # cuBLAS reads it at the first matrix product
    return "; ".join(filter(None, [note, preflight.check(spec.dataset.get("stage"))]))


def _create_task(spec: RunSpec, stop: StopSignal, losses: ending.UncheckedLosses) -> Task:
    keep_freed_memory()
    # imported late: torch and mmdet take seconds, in which a signal must be handled
    if spec.task == EVALUATE:
        from dynamic_rcnn.engine.evaluation_run import EvaluationRun

        return EvaluationRun(spec, stop)
    if spec.task == BENCHMARK:
        from dynamic_rcnn.engine.timing_run import TimingRun

        return TimingRun(spec, stop, losses)
    if spec.task == PRETRAIN:
        from dynamic_rcnn.engine.pretraining_run import PretrainingRun

        return PretrainingRun(spec, stop, losses)
    from dynamic_rcnn.engine.trainer import TrainingRun

    return TrainingRun(spec, stop, losses)


def _check_directory(spec: RunSpec) -> None:
    """Raise UserError if spec.json was changed after the directory got its name."""
    named = re.fullmatch(rf"seed\d+-([0-9a-f]{{{ID_DIGITS}}})", Path.cwd().name)
    if named is not None and named[1] != spec.id:
        raise UserError(f"{Path.cwd() / SPEC}: belongs to another run ({spec.id}); move the directory away")


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next iteration, instead of returning it to the kernel after each one.

    Allocations of up to 32 MiB, its limit. The page faults of returned memory take 5% of a training step on a CPU.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_M_MMAP_THRESHOLD, 2**25)


def main(arguments: Sequence[str]) -> int:
    """Train the run whose directory is the only argument. Returns the exit code; raises UserError for bad input."""
    (run_dir,) = cli.paths(arguments, "RUN_DIR")
    faulthandler.enable()  # prints where a hanging process is when SIGABRT ends it
    try:
        code = train(Path(os.path.realpath(run_dir)))
    except RunLockedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_LOCKED
    if code != EXIT_DONE and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # pending operations of the process group would keep this process from ending
    return code


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

"""Train and evaluate one run: `python -m dynamic_rcnn.train RUN_DIR`, where RUN_DIR holds a spec.json.

Resumes from the newest whole checkpoint and continues bit for bit (on the same machine and number of threads). A run
whose task is to evaluate trains nothing, and starts over.
A run of several processes (base.train.processes) is started by this command on this machine, one process a GPU where
there are any; in a Slurm job its tasks are the processes, which RANK in the environment says.
Exit codes: 0 done, 1 failed (status.json has the cause), 2 bad input, 75 another process trains this run or has taken
it over, 76 another process of this run is gone (the one that knows why records it), 130 interrupted by a signal (the
newest checkpoint is of that iteration; calling again goes on).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import re
import signal
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import InterruptedRunError, LostProcessError, NaNLossError, UserError
from dynamic_rcnn.parallel.processes import EXIT_CODES, run_processes
from dynamic_rcnn.parallel.rank import CLAIMED, EXIT_LOCKED, EXIT_LOST, NOTE, Rank, write_failure
from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.claim import Claim, claimed
from dynamic_rcnn.run.files import METRICS, SPEC
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, ID_DIGITS, RunSpec
from dynamic_rcnn.run.status import Record, SupersededError

if TYPE_CHECKING:
    from dynamic_rcnn.engine.evaluation_run import Evaluation
    from dynamic_rcnn.engine.timing_run import TimingRun
    from dynamic_rcnn.engine.trainer import Training

    Work = Training | Evaluation | TimingRun

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2
LOST = "lost"  # the end of a process that only knows that another one is gone; nothing is recorded of it
SUPERSEDED = "superseded"
_OF_ALL = ("NaN", "interrupted")  # causes that concern all processes, whichever came upon them
_DEVICE_PATIENCE_S = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class End:
    """How a process ended that did not finish.

    cause: an outcome of status.json, LOST or SUPERSEDED; message: one line; iteration: of a loss that is not finite.
    """

    cause: str
    message: str
    rank: int = 0
    iteration: int = 0

    @property
    def exit_code(self) -> int:
        codes = {SUPERSEDED: EXIT_LOCKED, LOST: EXIT_LOST, **EXIT_CODES}
        return codes.get(self.cause, EXIT_FAILED)


def train(run_dir: Path) -> int:
    """Train the run in `run_dir` to the end, under its claim. Returns the exit code."""
    spec = RunSpec.read(run_dir)
    if os.environ.get(CLAIMED) == "1":
        _end_with_parent()
        return _train(spec, None)
    with claimed(run_dir) as claim:
        return _train(spec, claim)


def _train(spec: RunSpec, claim: Claim | None) -> int:
    """Train `spec`, whose directory is the working directory. claim: None if the parent process holds it."""
    record, me, stop = Record.open(Path()), Rank(), StopSignal()
    training: Work | None = None
    try:
        given = Rank.of_this_process()
        me = given or me
        if me.size == 1 and Path(METRICS).exists():
            Record.close_done(Path())
            return EXIT_DONE
        _check_place(spec)
        if spec.task != EVALUATE:
            _check_batch(spec)
        if given is None and spec.processes > 1:
            return run_processes(spec.processes, claim)
        me.check(spec.processes)
        stop.install()
        if me.size > 1:  # else DDP says that no parameter is unused: see Training._wrapped
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from dynamic_rcnn.parallel import comm as distributed

        distributed.join(me, stop.check)
        if not distributed.broadcast(Path(METRICS).exists()):
            training = _begun(spec, stop)
            record = training.record
            training.restore(claim.note if claim else os.environ.get(NOTE))
            training.write_provenance()
            training.run()
            training.finish()
        elif distributed.is_main():
            Record.close_done(Path())
        distributed.leave()
        return EXIT_DONE
    except Exception as error:
        stop.only_note()
        return _ended(_end(error, me, training, stop.received), me, record)


def _begun(spec: RunSpec, stop: StopSignal) -> Work:
    """What does the run's task in this process."""
    if spec.task == EVALUATE:
        from dynamic_rcnn.engine.evaluation_run import Evaluation

        return Evaluation(spec, stop)
    if spec.task == BENCHMARK:
        from dynamic_rcnn.engine.timing_run import TimingRun

        return TimingRun(spec, stop)
    from dynamic_rcnn.engine.trainer import Training  # torch and mmdet: seconds

    return Training(spec, stop)


def _check_place(spec: RunSpec) -> None:
    """Refuse to train one run in the directory of another: its spec.json was changed by hand."""
    named = re.fullmatch(rf"seed\d+-([0-9a-f]{{{ID_DIGITS}}})", Path.cwd().name)
    if named is not None and named[1] != spec.id:
        raise UserError(
            f"{Path.cwd() / SPEC}: is of another run ({spec.id}), as launching says too; move the directory away"
        )


def _check_batch(spec: RunSpec) -> None:
    rate = spec.config["optim_wrapper"]["optimizer"]["lr"]
    images_per_process(spec.config["train"]["batch_size"], spec.processes, rate)


def _end(error: Exception, me: Rank, training: Work | None = None, stopped: bool = False) -> End:
    """How this process ended, after printing the traceback where that helps. stopped: whether a signal asked for it."""
    if isinstance(error, NaNLossError):
        return End("NaN", str(error), me.number)
    bad = _bad_loss(training) if training is not None else None
    if bad is not None:
        return End("NaN", f"the loss is not finite at iteration {bad}", me.number, bad)
    if stopped and _is_loss_of_another(error, me):
        return End("interrupted", "stopped by a signal that ended other processes of the run first", me.number)
    return End(*_cause(error, me), me.number)


def _bad_loss(training: Work) -> int | None:
    """The iteration of a loss that is not finite: an operator that chokes on NaN afterwards is not the cause.

    None where the device does not say so soon: one that has failed, or that waits for a process that is gone.
    """
    found: list[int | None] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            found.append(training.bad_loss())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_DEVICE_PATIENCE_S)
    return found[0] if found else None


def _cause(error: Exception, me: Rank) -> tuple[str, str]:
    """(cause, one line) of an error."""
    if isinstance(error, InterruptedRunError):
        return "interrupted", str(error)
    if isinstance(error, SupersededError):
        return SUPERSEDED, str(error)
    if isinstance(error, UserError):
        return "bad input", str(error)
    if isinstance(error, LostProcessError):
        return "error", str(error)
    line = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return "disk", f"{line}; free some space or choose another runs="
    if _is_loss_of_another(error, me):
        return LOST, f"another process of this run is gone ({line.split(' This is')[0]})"
    traceback.print_exc()
    memory = (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in line
    )
    return ("out of memory" if memory else "error"), line


def _is_loss_of_another(error: Exception, me: Rank) -> bool:
    if me.size == 1:
        return False
    from dynamic_rcnn.parallel import comm as distributed

    return distributed.is_loss_of_another(error)


def _ended(end: End, me: Rank, record: Record) -> int:
    """Say and record how the attempt ended, as the processes of the run know together. Returns the exit code."""
    if me.number > 0 and end.cause not in (LOST, SUPERSEDED, "interrupted"):
        write_failure(me, end.cause, end.message)
    if me.size > 1:
        end = _agreed(end)
    where = f"rank {end.rank}: " if end.rank > 0 and end.cause not in _OF_ALL else ""
    print(f"{end.cause}: {where}{end.message}", file=sys.stderr, flush=True)
    if me.number == 0 and end.cause not in (LOST, SUPERSEDED):
        try:
            if not record.started:  # it failed before it knew where to go on
                record.start(record.iteration)
            record.end(end.cause, where + end.message)
        except (OSError, SupersededError) as error:
            print(f"the status could not be written: {error}", file=sys.stderr)
    return end.exit_code


def _agreed(mine: End) -> End:
    """Of the ends of all processes that say theirs, the one that made the others fail."""
    from dynamic_rcnn.parallel import comm as distributed

    order = {SUPERSEDED: 0, "NaN": 1, "interrupted": 3, LOST: 4}  # 2: the other causes
    ends = [End(**each) for each in distributed.exchange_ends(asdict(mine))]
    return min(ends, key=lambda end: (order.get(end.cause, 2), end.iteration, end.rank))


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that holds the claim for it dies (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m dynamic_rcnn.train RUN_DIR   (a directory with a spec.json)", file=sys.stderr)
        return EXIT_BAD_INPUT
    faulthandler.enable()  # a process that is ended by SIGABRT, because it hangs, says where
    try:
        code = train(Path(os.path.realpath(sys.argv[1])))
    except RunLockedError as error:
        print(error, file=sys.stderr)
        return EXIT_LOCKED
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    if code != EXIT_DONE and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what this process and the others still wait for in the group would hold it for ever
    return code


if __name__ == "__main__":
    sys.exit(main())

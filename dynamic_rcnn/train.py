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
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from dynamic_rcnn.errors import InterruptedRunError, NaNLossError, UserError
from dynamic_rcnn.record import Record
from dynamic_rcnn.run.directory import METRICS, RunLockedError, locked
from dynamic_rcnn.run.spec import RunSpec

if TYPE_CHECKING:
    from dynamic_rcnn.training import Training

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_LOCKED, EXIT_INTERRUPTED = 0, 1, 2, 75, 130


def train(run_dir: Path) -> int:
    """Train the run in `run_dir` to the end, under its lock. Returns the exit code."""
    spec = RunSpec.read(run_dir)
    with locked(run_dir):
        if (run_dir / METRICS).exists():
            Record.close_done(run_dir)
            return EXIT_DONE
        from dynamic_rcnn.training import Training  # torch and mmdet: seconds

        record = Record(run_dir, 0)
        training: Training | None = None
        try:
            training = Training(run_dir, spec)
            record = training.record
            _stop_on_signals(training)
            training.restore()
            training.write_provenance()
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
            training.check_losses()  # an operator that chokes on NaN is not the cause
        except NaNLossError as nan:
            error = nan
        except Exception:  # a device that has failed cannot be asked
            pass
    if isinstance(error, NaNLossError):
        return "NaN", str(error), EXIT_FAILED
    if isinstance(error, UserError):
        return "bad input", str(error), EXIT_BAD_INPUT
    line = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return "disk", f"{line}; free some space or choose another runs=", EXIT_FAILED
    traceback.print_exc()
    memory = (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in line
    )
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

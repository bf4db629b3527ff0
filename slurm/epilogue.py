"""After srun, in the batch script: `python -m slurm.epilogue SUBMISSION CHUNK CODE`.

Writes down how the attempt ended, and requeues the job if its cause has retries left. CODE is srun's exit code.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dynamic_rcnn.parallel.rank import EXIT_LOCKED
from dynamic_rcnn.run.claim import claimed
from dynamic_rcnn.run.files import METRICS
from dynamic_rcnn.run.status import Record
from slurm import cli as queue
from slurm import end_causes as fate
from slurm.attempt import JobTask, exit_code
from slurm.submission_record import Submission

_REQUEUE_S = 60.0
_CLAIM_S = 30.0  # the ranks' processes may still be dying


def conclude(folder: Path, chunk: int, code: int) -> int:
    """End this job's attempt. Returns the batch script's exit code: 0 if the run is done or goes on."""
    submission, task = Submission.read(folder), JobTask.from_environment()
    run_dir = Path(submission.runs) / submission.chunks[chunk].runs[task.index]
    with claimed(run_dir, task.holder, task.alive, patience_s=_CLAIM_S) as claim:
        if Path(METRICS).exists():
            Record.close_done(Path())
            return 0
        record = Record.open(Path())
        fate.refuse_superseded(record, task)
        if fate.has_begun(record, task):
            cause, message = fate.cause_of_end(record, task, code, submission)
        elif code in (0, EXIT_LOCKED):  # rank 0 has said why there is to be no attempt
            return EXIT_LOCKED
        else:
            fate.close_previous(record, task, submission.retries)
            os.environ.update(task.environment())
            record.start(record.iteration)
            if claim.note:
                record.note(claim.note)
            cause, message = fate.cause_of_no_start(task, code, submission)
        refusal = fate.end_attempt(record, task, cause, message, submission.retries)
        print(f"{cause}: {message}", flush=True)
        if refusal is None and not fate.is_requeued(task):
            refusal = _requeue(task)
            if refusal is not None:
                record.end(cause, f"{message}; {refusal}")
    if refusal is None:
        return 0
    print(f"the run ends here: {refusal}", flush=True)
    return code or 1


def _requeue(task: JobTask) -> str | None:
    """Put the job back into the queue. Returns why that is not possible, or None; a busy controller is asked again."""
    deadline = time.monotonic() + _REQUEUE_S
    while True:
        try:
            queue.requeue(task.job)
            return None
        except queue.SlurmError as error:
            if time.monotonic() > deadline:
                return f"Slurm does not requeue the job ({error}); launch again"
            time.sleep(5.0)


def main(arguments: list[str]) -> int:
    if len(arguments) != 3 or not all(argument.isdigit() for argument in arguments[1:]):
        print("usage: python -m slurm.epilogue SUBMISSION CHUNK CODE   (the batch script calls it)", file=sys.stderr)
        return 2
    return exit_code(lambda: conclude(Path(arguments[0]), int(arguments[1]), int(arguments[2])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

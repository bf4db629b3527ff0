"""What the batch script runs after srun: records how the attempt ended, and requeues the job if it has retries left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dynamic_rcnn.parallel.rank import EXIT_LOCKED
from dynamic_rcnn.run.claim import claimed
from dynamic_rcnn.run.files import METRICS
from dynamic_rcnn.run.status import StatusFile
from slurm import cli, end_causes
from slurm.attempt import JobTask, run_command, start_attempt
from slurm.submission_record import Submission

USAGE = """
usage: python -m slurm.epilogue SUBMISSION CHUNK CODE SRUN

The batch scripts of launch.py run this after srun, which ended with exit code CODE, or if cluster.setup ended with exit
code CODE before srun (SRUN 0 instead of 1).
"""
_REQUEUE_S = 60.0
_CLAIM_S = 30.0  # the ranks' processes may still be ending


def end_job(folder: Path, chunk: int, code: int, srun: int = 1) -> int:
    """End this job's attempt. Returns the batch script's exit code: 0 if the run is done or the job is requeued."""
    submission, task = Submission.read(folder), JobTask.from_env()
    with claimed(submission.run_dir(chunk, task.index), task.holder, task.is_alive, patience_s=_CLAIM_S) as claim:
        if Path(METRICS).exists():
            StatusFile.close_done(Path())
            return 0
        record = StatusFile.open(Path())
        end_causes.refuse_superseded(record, task)
        if end_causes.has_begun(record, task):
            cause, message = end_causes.cause_of_end(record, task, code, submission)
        elif srun and code in (0, EXIT_LOCKED):  # rank 0 printed why there is no attempt
            return EXIT_LOCKED
        else:
            end_causes.close_previous(record, task, submission.retries)
            start_attempt(record, task, claim.note)
            cause, message = end_causes.cause_of_no_start(task, code, submission, bool(srun))
        reason = end_causes.end_attempt(record, task, cause, message, submission.retries)
        print(f"{cause}: {message}", flush=True)
        if reason is None and not end_causes.is_requeued(task):
            reason = _requeue(task)
            if reason is not None:
                record.end(cause, f"{message}; {reason}")
    if reason is None:
        return 0
    print(f"no further attempt: {reason}", flush=True)
    return code or 1


def _requeue(task: JobTask) -> str | None:
    """Put the job back into the queue; asks a busy controller again. Returns why that is not possible, or None."""
    deadline = time.monotonic() + _REQUEUE_S
    while True:
        try:
            cli.requeue(task.job)
            return None
        except cli.SlurmError as error:
            if end_causes.is_requeued(task):  # Slurm did so itself meanwhile: "already completing"
                return None
            if time.monotonic() > deadline:
                return f"Slurm did not requeue the job ({error}); launch again"
            time.sleep(5.0)


if __name__ == "__main__":
    sys.exit(run_command(end_job, USAGE, "CHUNK", "CODE", "SRUN"))

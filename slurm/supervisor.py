"""What srun runs on each rank: a supervisor of one trainer process.

Rank 0 claims the run, so that no other attempt writes into its directory. The trainer is a child process with the run
directory as working directory. The supervisor passes on Slurm's warning, notices a trainer that hangs or is killed, and
leaves a note for `slurm.epilogue`, which ends the attempt after srun. Imports no torch.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from slurm import warning_signals

if __name__ == "__main__":  # the other imports take a moment, in which a warning may arrive
    warning_signals.note_signals()

from dynamic_rcnn.parallel.rank import EXIT_INTERRUPTED, EXIT_LOST, Rank, read_failures, write_failure
from dynamic_rcnn.run.claim import Claim, claimed, is_superseded
from dynamic_rcnn.run.files import METRICS, log_name
from dynamic_rcnn.run.status import StatusFile
from slurm import end_causes
from slurm.attempt import (
    JobTask,
    announce,
    killed_here,
    read_warning,
    run_command,
    start_attempt,
    wait_for_announcement,
    write_warning,
)
from slurm.submission_record import Submission

USAGE = """
usage: python -m slurm.supervisor SUBMISSION CHUNK

The batch scripts of launch.py run this with srun.
"""
GRACE_S = 5.0  # srun ends all ranks when the first one fails: the others have this long to report what they know
_POLL_S = 0.2
_RECORDED = (1, 2)  # exit codes with which the trainer of rank 0 has written its cause into status.json
_CLAIM_S = 15.0
_SUSPENDED_S = 10.0  # a supervisor that did not run for longer was suspended, and its trainer with it


def run_task(folder: Path, chunk: int) -> int:
    """Supervise this rank's trainer to its end. Returns the exit code; 0 also after a warning."""
    submission, task = Submission.read(folder), JobTask.from_env()
    run_dir = submission.run_dir(chunk, task.index)
    start = f"{task.token} rank {task.rank} of {task.ranks} on {os.uname().nodename}: {run_dir}"
    for stream in (sys.stdout, sys.stderr):  # a job that is started again appends to the same files
        print(start, file=stream, flush=True)
    if task.rank:
        number = wait_for_announcement(run_dir, task)
        if number is None:
            return 0
        os.chdir(run_dir)
        return _Supervisor(submission, task, number).run()
    with claimed(run_dir, task.holder, task.is_alive, patience_s=_CLAIM_S) as claim:
        number = _begin_attempt(submission, task, claim)
        return 0 if number is None else _Supervisor(submission, task, number, claim.lock).run()


def _begin_attempt(submission: Submission, task: JobTask, claim: Claim) -> int | None:
    """Begin an attempt in the record. Returns its number, or None after printing why there is no further attempt."""
    record = StatusFile.open(Path())
    end_causes.refuse_superseded(record, task)
    if Path(METRICS).exists():
        StatusFile.close_done(Path())
        reason: str | None = "the run is done"
    else:
        reason = end_causes.close_previous(record, task, submission.retries)
    if reason is not None:
        print(reason, flush=True)
        announce(task, None)
        return None
    number = len(record.attempts) + 1
    start_attempt(record, task, claim.note, log_name(number))
    announce(task, number)
    return number


class _Supervisor:
    """One trainer process, its log, and the pipe on which it reports progress."""

    def __init__(self, submission: Submission, task: JobTask, number: int, lock: int | None = None) -> None:
        self.submission, self.task = submission, task
        self.run_dir = Path.cwd()
        self.log = Path(log_name(number, task.rank))
        self.me = Rank(task.rank, task.ranks, task.local_rank, task.token)
        self.heartbeats, heartbeat = os.pipe()
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.trainer = subprocess.Popen(
                [sys.executable, *submission.trainer],
                env=self._environment(heartbeat),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[heartbeat] if lock is None else [heartbeat, lock],
                preexec_fn=_ignore_warnings,
            )
        os.close(heartbeat)

    def _environment(self, heartbeat: int) -> dict[str, str]:
        own = self.task.process_env(str(self.log), self.submission.command)
        return {
            "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1"),
            "OMP_WAIT_POLICY": "PASSIVE",
            **replace(own, claimed=True, heartbeat=heartbeat, preflight=self.submission.preflight).to_env(),
            **self.me.to_env(),
        }

    def run(self) -> int:
        """Watch the trainer to its end. Returns the exit code of this rank."""
        last = looked = time.monotonic()
        was_warned = stalled = False
        while (code := self.trainer.poll()) is None:
            away, looked = time.monotonic() - looked, time.monotonic()
            if away > _SUSPENDED_S:
                last += away
            if self._wait_for_heartbeat():
                last = time.monotonic()
            if warning_signals.received and not was_warned:
                was_warned = True
                self._pass_warning_on()
            if was_warned and self._is_left_behind():
                return 0
            if time.monotonic() - last > self.submission.stall_s and not stalled:
                stalled = True
                self._end_stalled(time.monotonic() - last)
        return self._end(code, stalled)

    def _end(self, code: int, stalled: bool) -> int:
        if code in (0, EXIT_INTERRUPTED):
            self._record_warning()
            return 0
        if is_superseded(self.run_dir):  # an error code would make srun end the step of that name: the successor's
            print(f"{self.run_dir}: another attempt has taken over this run", flush=True)
            return 0
        if not stalled and code != EXIT_LOST:  # else another rank knows why
            self._record_failure(code)
        print(f"the trainer of rank {self.task.rank} ended with exit code {code}: see {self.log}", flush=True)
        time.sleep(GRACE_S)
        return code if code > 0 else 128 - code

    def _wait_for_heartbeat(self) -> bool:
        """Wait a moment for a sign of life. Returns whether there was one."""
        if not select.select([self.heartbeats], [], [], _POLL_S)[0]:
            return False
        if os.read(self.heartbeats, 4096):
            return True
        time.sleep(_POLL_S)  # the trainer has closed its end
        return False

    def _pass_warning_on(self) -> None:
        """Pass Slurm's warning on to the trainer; rank 0 records its cause."""
        self.trainer.send_signal(signal.SIGTERM)
        if self.task.rank == 0:
            cause, message = end_causes.cause_of_warning(
                self.task, warning_signals.received[0], self.submission.warning_s
            )
            write_warning(self.task.token, cause, message)

    def _is_left_behind(self) -> bool:
        """End a trainer that waits, inside a library, for a rank 0 that ended after a warning. Returns whether it did.

        Such a trainer does not react to signals.
        """
        last = None if self.task.rank == 0 else StatusFile.open(Path()).last
        if last is None or last.outcome is None:
            return False
        self._wait_or_kill()
        self.trainer.wait()
        return True

    def _wait_or_kill(self) -> None:
        try:
            self.trainer.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.trainer.kill()

    def _record_warning(self) -> None:
        """Record the warning's cause at once: after a scancel the batch script may have no time to do it."""
        warning = read_warning(self.task.token) if self.task.rank == 0 else None
        record = StatusFile.open(Path())
        if warning is not None and record.last is not None and record.last.outcome == "interrupted":
            record.end(*warning)

    def _record_failure(self, code: int) -> None:
        """Record an end that the trainer could not record itself."""
        if warning_signals.received and code == -signal.SIGTERM:  # it did not handle the signal yet
            return
        who = f"rank {self.task.rank}"
        if killed_here():
            write_failure(self.me, "out of memory", f"the kernel killed a process of {who}: out of memory")
        elif code < 0:
            write_failure(self.me, "killed", f"{who} was killed by {signal.Signals(-code).name}")
        elif not self._has_recorded(code):
            write_failure(self.me, "error", f"{who} ended with exit code {code}")

    def _has_recorded(self, code: int) -> bool:
        """Whether the trainer, which ended with an exit code, recorded the cause itself."""
        left = [failure.rank for failure in read_failures(Path(), self.me.attempt)]
        return self.me.number in left or (self.me.number == 0 and code in _RECORDED)

    def _end_stalled(self, seconds: float) -> None:
        write_failure(self.me, "stalled", f"rank {self.task.rank} made no progress for {seconds / 60:.1f} minutes")
        self.trainer.send_signal(signal.SIGABRT)  # faulthandler writes into the log where it hangs
        self._wait_or_kill()


def _ignore_warnings() -> None:
    """Slurm sends its warning to every process of the task; the trainer gets it from its supervisor, as SIGTERM."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(run_command(run_task, USAGE, "CHUNK"))

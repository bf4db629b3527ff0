"""What srun starts on each rank: `python -m slurm.supervisor SUBMISSION CHUNK`, a supervisor of one trainer process.

Rank 0 claims the run, so that no other attempt writes into its directory. Each rank's trainer is a child with the run
directory as working directory. The supervisor hands on Slurm's warning, notices a trainer that hangs or is killed, and
leaves a note for `slurm.epilogue`, which ends the attempt after srun. No torch here.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from dynamic_rcnn.parallel.rank import CLAIMED, EXIT_INTERRUPTED, EXIT_LOST, Rank, read_failures, write_failure
from dynamic_rcnn.run.attempt_logs import log_name
from dynamic_rcnn.run.claim import Claim, claimed, superseded
from dynamic_rcnn.run.files import METRICS
from dynamic_rcnn.run.heartbeat import ENVIRONMENT as HEARTBEAT
from dynamic_rcnn.run.status import Record
from slurm import end_causes as fate
from slurm import oom as memory
from slurm.attempt import JobTask, begin, exit_code, read_warning, wait_for_beginning, write_warning
from slurm.submission_record import Submission

GRACE_S = 5.0  # srun ends all ranks when the first one fails: the others have this long to say what they know
_POLL_S = 0.2
_TRAINER_SAYS = (1, 2)  # with these exit codes the trainer of rank 0 has written its cause into status.json
_CLAIM_S = 15.0
_SUSPENDED_S = 10.0  # a supervisor that was away for longer was suspended, and its trainer with it


def run_task(folder: Path, chunk: int) -> int:
    """Supervise this rank's trainer to its end. Returns the exit code; 0 also after a warning."""
    warned: list[int] = []
    for each in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(each, lambda number, frame: warned.append(number))
    submission, task = Submission.read(folder), JobTask.from_environment()
    run_dir = Path(submission.runs) / submission.chunks[chunk].runs[task.index]
    for stream in (sys.stdout, sys.stderr):  # the job's output goes on in the same files when the job runs again
        print(
            f"{task.token} rank {task.rank} of {task.ranks} on {os.uname().nodename}: {run_dir}",
            file=stream,
            flush=True,
        )
    if task.rank:
        number = wait_for_beginning(run_dir, task)
        if number is None:
            return 0
        os.chdir(run_dir)
        return _Supervisor(submission, task, warned, number).run()
    with claimed(run_dir, task.holder, task.alive, patience_s=_CLAIM_S) as claim:
        number = _begin(submission, task, claim)
        return 0 if number is None else _Supervisor(submission, task, warned, number, claim.lock).run()


def _begin(submission: Submission, task: JobTask, claim: Claim) -> int | None:
    """Begin an attempt in the record. Returns its number; None if there is to be none, and says why."""
    record = Record.open(Path())
    fate.refuse_superseded(record, task)
    if Path(METRICS).exists():
        Record.close_done(Path())
        refusal: str | None = "the run is done"
    else:
        refusal = fate.close_previous(record, task, submission.retries)
    if refusal is not None:
        print(refusal, flush=True)
        begin(task, None)
        return None
    number = len(record.attempts) + 1
    os.environ.update(task.environment() | {"DYNAMIC_RCNN_LOG": log_name(number, 0)})
    record.start(record.iteration)
    if claim.note:
        record.note(claim.note)
        record.progress(record.iteration)
    begin(task, number)
    return number


class _Supervisor:
    """One trainer process, its log, and the pipe through which it says that it goes on."""

    def __init__(
        self,
        submission: Submission,
        task: JobTask,
        warned: list[int],
        number: int,
        lock: int | None = None,
    ) -> None:
        self.submission, self.task, self.warned = submission, task, warned
        self.place = Path.cwd()
        self.log = Path(log_name(number, task.rank))
        self.me = Rank(task.rank, task.ranks, task.local_rank, task.token)
        self.beats, self._beats_in = os.pipe()
        inherited = [self._beats_in] + ([lock] if lock is not None else [])
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.trainer = subprocess.Popen(
                [sys.executable, *submission.trainer],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherited,
                preexec_fn=_ignore_warnings,
            )
        os.close(self._beats_in)

    def _environment(self) -> dict[str, str]:
        threads = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        return {
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            **self.task.environment(),
            "RANK": str(self.task.rank),
            "WORLD_SIZE": str(self.task.ranks),
            "LOCAL_RANK": str(self.task.local_rank),
            CLAIMED: "1",
            HEARTBEAT: str(self._beats_in),
            "DYNAMIC_RCNN_LOG": str(self.log),
            "DYNAMIC_RCNN_COMMAND": self.submission.command,
        }

    def run(self) -> int:
        last = looked = time.monotonic()
        told = stalled = False
        while (code := self.trainer.poll()) is None:
            away, looked = time.monotonic() - looked, time.monotonic()
            if away > _SUSPENDED_S:
                last += away
            if self._beat():
                last = time.monotonic()
            if self.warned and not told:
                told = True
                self._warn()
            if told and self._is_left_behind():
                return 0
            if time.monotonic() - last > self.submission.stall_s and not stalled:
                stalled = True
                self._end_stalled(time.monotonic() - last)
        if code in (0, EXIT_INTERRUPTED):
            self._record_warning()
            return 0
        if superseded(self.place):  # an error code would make srun end the step of that name: the successor's
            print(f"{self.place}: another attempt has taken over this run", flush=True)
            return 0
        if not stalled and code != EXIT_LOST:  # else another rank knows why
            self._leave_note(code)
        print(f"the trainer of rank {self.task.rank} ended with exit code {code}: see {self.log}", flush=True)
        time.sleep(GRACE_S)
        return code if code > 0 else 128 - code

    def _beat(self) -> bool:
        """Wait a moment for a sign of life. Returns whether there was one."""
        if not select.select([self.beats], [], [], _POLL_S)[0]:
            return False
        if os.read(self.beats, 4096):
            return True
        time.sleep(_POLL_S)  # the trainer has closed its end
        return False

    def _warn(self) -> None:
        """Hand Slurm's warning on; rank 0 writes down what it is for."""
        self.trainer.send_signal(signal.SIGTERM)
        if self.task.rank == 0:
            cause, message = fate.cause_of_warning(self.task, self.warned[0], self.submission.warning_s)
            write_warning(self.task.token, cause, message)

    def _is_left_behind(self) -> bool:
        """Whether rank 0 has ended after a warning, and this trainer, deaf within a library, waits for it: end it."""
        last = None if self.task.rank == 0 else Record.open(Path()).last
        if last is None or last.outcome is None:
            return False
        try:
            self.trainer.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.trainer.kill()
            self.trainer.wait()
        return True

    def _record_warning(self) -> None:
        """Name the cause at once: after a scancel there may be no time for the batch script to do so."""
        warning = read_warning(self.task.token) if self.task.rank == 0 else None
        record = Record.open(Path())
        if warning is not None and record.last is not None and record.last.outcome == "interrupted":
            record.end(*warning)

    def _leave_note(self, code: int) -> None:
        """Write down a death that the trainer could not write down itself."""
        if self.warned and code == -signal.SIGTERM:  # it had not come to where it handles the signal
            return
        if memory.killed_here():
            cause, message = (
                "out of memory",
                f"the kernel killed a process of rank {self.task.rank}: no memory was left",
            )
        elif code < 0:
            cause, message = "killed", f"rank {self.task.rank} was killed by {signal.Signals(-code).name}"
        elif not self._has_said(code):
            cause, message = "error", f"rank {self.task.rank} ended with exit code {code}"
        else:
            return
        write_failure(self.me, cause, message)

    def _has_said(self, code: int) -> bool:
        """Whether the trainer, which ended with an exit code, has said why itself."""
        if self.me.number == 0 and code in _TRAINER_SAYS:
            return True
        return any(failure.rank == self.me.number for failure in read_failures(Path(), self.me.attempt))

    def _end_stalled(self, seconds: float) -> None:
        message = f"rank {self.task.rank} made no progress for {seconds / 60:.1f} minutes"
        write_failure(self.me, "stalled", message)
        self.trainer.send_signal(signal.SIGABRT)  # with faulthandler on: the log shows where it hangs
        try:
            self.trainer.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.trainer.kill()


def _ignore_warnings() -> None:
    """Slurm sends its warning to every process of the task; the trainer gets it from its supervisor, as SIGTERM."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or not arguments[1].isdigit():
        print(
            "usage: python -m slurm.supervisor SUBMISSION CHUNK   (launch.py's batch scripts call it)", file=sys.stderr
        )
        return 2
    return exit_code(lambda: run_task(Path(arguments[0]), int(arguments[1])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

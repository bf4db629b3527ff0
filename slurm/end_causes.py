"""Why an attempt ended, and whether the run gets another one.

Most causes are recorded as they happen: by the trainer, by its supervisor, or with the warning that Slurm sends. Others
(a lost node, a `scontrol requeue`) are inferred when the next attempt begins.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from dynamic_rcnn.parallel.rank import EXIT_LOST, read_failures
from dynamic_rcnn.run.files import STATUS, read_content
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.status import Attempt, Status, StatusFile
from slurm import cli, warning_signals
from slurm.attempt import JobTask, read_warning
from slurm.submission_record import Submission

NODE_FAILURE, PREFLIGHT = "node failure", "preflight failed"
# cause -> its retry budget; a run that ended by another cause is not retried
BUDGETS = {
    "time-out": "time_out",
    "preempted": "preempted",
    "interrupted": "preempted",
    "requeued": "requeued",
    NODE_FAILURE: "node_failure",
    PREFLIGHT: "preflight",
    "out of memory": "out_of_memory",
    "stalled": "stalled",
    "killed": "killed",
    "error": "error",
    "NaN": "nan",
}
# if ranks report different causes, the first of these is the cause and the others are its consequences
_SPECIFIC = (PREFLIGHT, "out of memory", "NaN", "no positives", "bad input", "disk", "stalled", "killed", "error")
_NEAR_END_S = 90.0  # Slurm checks time limits about every 30 s, and warns up to 60 s earlier than asked
_OUT_OF_MEMORY = re.compile(r"oom[-_]kill|out of memory|exceeded (job |step )?memory limit", re.IGNORECASE)
_HICCUP = re.compile(
    r"invalid generic resource|credential|unable to confirm allocation|connection failure|already completing",
    re.IGNORECASE,
)
_LOST = {"DOWN", "NOT_RESPONDING", "FAIL", "FAILING", "UNKNOWN"}


def cause_of_warning(task: JobTask, number: int, warning_s: float) -> tuple[str, str]:
    """(cause, message) of a signal, from the job's state. Slurm sends it `warning_s` before the time limit."""
    job = cli.describe(task.job)
    cause, message = _in_slurm(job, task)
    if cause == "requeued" and (lost := _failed_nodes(task.nodes, task.began)):
        return NODE_FAILURE, lost
    if cause is not None:
        return cause, message
    end = _time(job.get("EndTime", ""))
    if end and end - time.time() <= warning_s + _NEAR_END_S:
        return "time-out", f"the time limit of {job.get('TimeLimit')} was near"
    return "interrupted", f"the job was sent {signal.Signals(number).name}"


def _in_slurm(job: dict[str, str], task: JobTask) -> tuple[str | None, str]:
    """(cause, message) by which Slurm is ending the job, from its fields; (None, "") while it runs."""
    state = job.get("JobState")
    if job.get("Reason") == "TimeLimit":
        return "time-out", f"the time limit of {job.get('TimeLimit')} was reached"
    if job.get("PreemptTime", "None") not in ("None", "Unknown"):
        return "preempted", "another job has preempted this one"
    if state != "CANCELLED" and _is_queued_again(job, task):
        return "requeued", "Slurm requeued the job: preempted without a warning, or scontrol requeue"
    if state in ("COMPLETING", "CANCELLED"):
        return "cancelled", "the job was cancelled (scancel)"
    return None, ""


def close_previous(record: StatusFile, task: JobTask, retries: dict[str, int]) -> str | None:
    """End the previous attempt, if it could not do so itself. Returns why there is no further attempt, or None."""
    last = record.last
    if last is not None and last.outcome in (None, "interrupted"):
        record.iteration = last.to_iteration
        record.end(*_infer_cause(last, task), ended=last.ended or record.heartbeat)
        last = record.last
    if last is None or last.job != task.job or last.outcome is None or last.outcome == "done":
        return None
    return why_not_retried(record, task, last.outcome, retries)


def cause_of_end(record: StatusFile, task: JobTask, code: int, submission: Submission) -> tuple[str, str]:
    """(cause, message) of an attempt that ended before the run was done. code: the exit code of srun."""
    cause, message = _in_slurm(cli.describe(task.job), task)
    if cause == "cancelled":  # a requeue would bring it back to life
        return cause, message
    recorded = _recorded_cause(record, task)
    if recorded is None or recorded[0] in ("error", "killed"):
        if _OUT_OF_MEMORY.search(_stderr_tail(submission.folder, task)):
            return "out of memory", "Slurm ended the job: it used more memory than its limit (cluster.mem)"
        if lost := _failed_nodes(task.nodes, task.began):
            return NODE_FAILURE, lost
    warning = read_warning(task.token)
    if recorded is not None and not (recorded[0] == "killed" and warning and warning[0] != "interrupted"):
        return recorded
    if warning is not None:
        return warning
    if cause is not None:
        return cause, message
    if code > 128:
        return "killed", f"its processes were killed by signal {code - 128}"
    if code == EXIT_LOST:
        return "killed", "its processes lost each other, and none recorded why"
    return "error", f"the job's processes ended with exit code {code} and recorded no cause; see the job's output"


def cause_of_no_start(task: JobTask, code: int, submission: Submission, srun: bool = True) -> tuple[str, str]:
    """(cause, message) of a job in which no attempt began. code: the exit code of srun, or of the setup before it.

    A signal of Slurm ends a process that is still starting Python, or a container around it.
    """
    if code - 128 in warning_signals.NUMBERS:
        return cause_of_warning(task, code - 128, submission.warning_s)
    cause, message = _in_slurm(cli.describe(task.job), task)
    if cause is not None:
        return cause, message
    if lost := _failed_nodes(task.nodes, task.began):
        return NODE_FAILURE, lost
    if not srun:
        return "error", f"cluster.setup ended with exit code {code}; see the job's output in {submission.folder}"
    where = f"srun could not start its tasks (exit code {code}); see the job's output in {submission.folder}"
    hiccup = _HICCUP.search(_stderr_tail(submission.folder, task))
    return (NODE_FAILURE if hiccup else "error"), where


def _recorded_cause(record: StatusFile, task: JobTask) -> tuple[str, str] | None:
    """(cause, message) that rank 0 recorded or other ranks or supervisors left; of several, the first cause."""
    last = record.attempts[-1]
    found = []
    if last.outcome is not None and last.outcome != "interrupted":
        found.append((last.outcome, str(read_content(Status, Path(STATUS)).message)))
    failures = sorted(read_failures(Path(), task.token), key=lambda failure: failure.written)
    found += [(failure.cause, failure.message) for failure in failures]
    order = {cause: rank for rank, cause in enumerate(_SPECIFIC)}
    return min(found, key=lambda item: order.get(item[0], len(order)), default=None)


def why_not_retried(record: StatusFile, task: JobTask, cause: str, retries: dict[str, int]) -> str | None:
    """Why a run that ended by `cause` is not retried in this job. None if it is."""
    if cause not in BUDGETS:
        return f"{cause} is not retried"
    here = [attempt for attempt in record.attempts if attempt.job == task.job]
    last_two = [attempt.outcome == cause and attempt.to_iteration <= attempt.from_iteration for attempt in here[-2:]]
    if cause == "time-out" and last_two == [True, True]:
        return "two attempts in a row made no progress within the time limit: set a longer cluster.time"
    allowed = retries[BUDGETS[cause]]
    same = [name for name, budget in BUDGETS.items() if budget == BUDGETS[cause]]
    used = sum(attempt.outcome in same for attempt in here)
    if used <= allowed:
        return None
    if allowed == 0:
        return f"not retried (cluster.retries.{BUDGETS[cause]} is 0)"
    times = "1 time" if allowed == 1 else f"{allowed} times"
    return f"retried {times}, as often as cluster.retries.{BUDGETS[cause]} allows"


def refuse_superseded(record: StatusFile, task: JobTask) -> None:
    """Raises RunLockedError if Slurm has started this job again: this start must not touch the run any more."""
    starts = [attempt.restart or 0 for attempt in record.attempts if attempt.job == task.job]
    if starts and max(starts) > task.restart:
        raise RunLockedError(f"job {task.job} was started again on {record.attempts[-1].nodes}: this start ends")


def has_begun(record: StatusFile, task: JobTask) -> bool:
    """Whether the record's last attempt is this one."""
    return record.last is not None and (record.last.job, record.last.restart) == (task.job, task.restart)


def end_attempt(record: StatusFile, task: JobTask, cause: str, message: str, retries: dict[str, int]) -> str | None:
    """Close the attempt in the record. Returns why the run is not retried, or None."""
    record.end(cause, message)
    reason = why_not_retried(record, task, cause, retries)
    if reason is not None and cause in BUDGETS:
        record.end(cause, f"{message}; {reason}")
    return reason


def is_requeued(task: JobTask) -> bool:
    """Whether Slurm has already put the job back into the queue, after a preemption or a `scontrol requeue`."""
    return _is_queued_again(cli.describe(task.job), task)


def _is_queued_again(job: dict[str, str], task: JobTask) -> bool:
    return int(job.get("Restarts", 0)) > task.restart or job.get("JobState") == "PENDING"


def _infer_cause(last: Attempt, task: JobTask) -> tuple[str, str]:
    if last.job is None:
        return "killed", "the process died without writing its status"
    if lost := _failed_nodes(last.nodes or "", last.started):
        return NODE_FAILURE, lost
    if warning := read_warning(last.token):
        return warning
    if lost := _failed_nodes(last.nodes or "", last.started, restarted=True):
        return NODE_FAILURE, lost
    if last.job == task.job:
        return "requeued", "Slurm started the job again, for a reason that it did not give (scontrol requeue?)"
    return "killed", f"job {last.job} ended without writing a status"


def _failed_nodes(nodes: str, since: float, restarted: bool = False) -> str:
    """The nodes of a job that failed, in one line; "" if none did.

    restarted: also those on which only slurmd was started again, which jobs survive unless their processes are gone.
    """
    times = ("BootTime", "SlurmdStartTime") if restarted else ("BootTime",)
    lost = [node["NodeName"] for node in cli.describe_nodes(nodes) if _has_failed(node, since, times)]
    return f"{', '.join(lost)} failed or lost contact" if lost else ""


def _has_failed(node: dict[str, str], since: float, times: Sequence[str]) -> bool:
    """Whether a node is down, or one of its `times` is after `since` (seconds since the epoch)."""
    words = node.get("State", "").split("+")
    silent = any(word.endswith("*") for word in words)
    started = max(_time(node.get(name, "")) for name in times)
    return silent or bool(_LOST & {word.rstrip("*") for word in words}) or started > since


def _stderr_tail(folder: Path, task: JobTask) -> str:
    """The job's error output since this attempt began."""
    texts = (path.read_text(errors="replace") for path in folder.glob(f"{task.job}_*_log.err"))
    return "\n".join(text.rpartition(f"{task.token} ")[2] for text in texts)


def _time(moment: str) -> float:
    """Parse a time of Slurm (local, ISO) into seconds since the epoch; 0 for anything else."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0

"""What ended an attempt, and whether the run is given another one.

Most causes are seen as they happen: by the trainer itself, by its supervisor, or in the warning that Slurm sends. What
came without a word (a lost node, somebody's `scontrol requeue`) is inferred when the next attempt begins.
"""

from __future__ import annotations

import re
import signal
import time
from datetime import datetime
from pathlib import Path

from dynamic_rcnn.parallel.rank import EXIT_LOST, read_failures
from dynamic_rcnn.run.files import STATUS, read_content
from dynamic_rcnn.run.lock import RunLockedError
from dynamic_rcnn.run.status import Attempt, Record, Status
from slurm import cli as queue
from slurm.attempt import JobTask, read_warning
from slurm.submission_record import Submission

# cause of an end -> the retry budget that it counts for; what is not here is not tried again
BUDGETS = {
    "time-out": "time_out",
    "preempted": "preempted",
    "interrupted": "preempted",
    "requeued": "requeued",
    "node failure": "node_failure",
    "out of memory": "out_of_memory",
    "stalled": "stalled",
    "killed": "killed",
    "error": "error",
    "NaN": "nan",
}
# when ranks tell different things, the first of these is the cause and the others its consequences
_SPECIFIC = ("out of memory", "NaN", "bad input", "disk", "stalled", "killed", "error")
_NEAR_END_S = 90.0  # Slurm looks at time limits every 30 s or so, and warns up to 60 s earlier than asked
_OUT_OF_MEMORY = re.compile(r"oom[-_]kill|out of memory|exceeded (job |step )?memory limit", re.IGNORECASE)
_HICCUP = re.compile(
    r"invalid generic resource|credential|unable to confirm allocation|connection failure", re.IGNORECASE
)
_LOST = {"DOWN", "NOT_RESPONDING", "FAIL", "FAILING", "UNKNOWN"}


def cause_of_warning(task: JobTask, number: int, warning_s: float) -> tuple[str, str]:
    """(cause, one line) of a signal, from what Slurm says of the job now. warning_s: its lead before the time limit."""
    job = queue.describe(task.job)
    cause, message = _in_slurm(job, task)
    if cause == "requeued" and (lost := _failed_nodes(task.nodes, task.began)):
        return "node failure", lost
    if cause is not None:
        return cause, message
    if _seconds_until(job.get("EndTime", "")) <= warning_s + _NEAR_END_S:
        return "time-out", f"the time limit of {job.get('TimeLimit')} was near"
    return "interrupted", f"the job was sent {signal.Signals(number).name}"


def _in_slurm(job: dict[str, str], task: JobTask) -> tuple[str | None, str]:
    """(cause, one line) of what Slurm is doing to the job, by its fields; (None, "") while it lets it run."""
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


def close_previous(record: Record, task: JobTask, retries: dict[str, int]) -> str | None:
    """End the attempt before this one in the record, if it could not do so itself.

    Returns why there is to be no further attempt, or None.
    """
    last = record.last
    if last is None:
        return None
    if last.outcome in (None, "interrupted"):
        record.iteration = last.to_iteration
        record.end(*_cause_without_a_word(last, task))
        last = record.attempts[-1]
    if last.job != task.job or last.outcome is None or last.outcome == "done":
        return None
    return refusal(record, task, last.outcome, retries)


def cause_of_end(record: Record, task: JobTask, code: int, submission: Submission) -> tuple[str, str]:
    """(cause, one line) of an attempt that ended without the run being done. code: srun's exit code."""
    cause, message = _in_slurm(queue.describe(task.job), task)
    if cause == "cancelled":  # a requeue would bring it back to life
        return cause, message
    told = _told(record, task)
    if told is None or told[0] in ("error", "killed"):
        if _OUT_OF_MEMORY.search(_said(submission.folder, task)):
            return "out of memory", "Slurm ended the job: it used more memory than its limit (cluster.mem)"
        lost = _failed_nodes(task.nodes, task.began)
        if lost:
            return "node failure", lost
    warning = read_warning(task.token)
    if told is not None and not (told[0] == "killed" and warning and warning[0] != "interrupted"):
        return told
    if warning is not None:
        return warning
    if code > 128:
        return "killed", f"its processes were killed by signal {code - 128}"
    if code == EXIT_LOST:
        return "killed", "its processes lost each other, and none says why"
    return "error", f"the job's processes ended with exit code {code} and said nothing; see the job's output"


def cause_of_no_start(task: JobTask, code: int, submission: Submission) -> tuple[str, str]:
    """(cause, one line) of a job of which no attempt began. code: srun's exit code."""
    cause, message = _in_slurm(queue.describe(task.job), task)
    if cause == "cancelled":
        return cause, message
    lost = _failed_nodes(task.nodes, task.began)
    if lost:
        return "node failure", lost
    where = f"srun could not start its tasks (exit code {code}); see the job's output in {submission.folder}"
    hiccup = _HICCUP.search(_said(submission.folder, task))
    return ("node failure" if hiccup else "error"), where


def _told(record: Record, task: JobTask) -> tuple[str, str] | None:
    """What rank 0 recorded, or other ranks or supervisors left: of several the one that made the others."""
    last = record.attempts[-1]
    told = []
    if last.outcome is not None and last.outcome != "interrupted":
        told.append((last.outcome, str(read_content(Status, Path(STATUS)).message)))
    failures = sorted(read_failures(Path(), task.token), key=lambda failure: failure.written)
    told += [(failure.cause, failure.message) for failure in failures]
    order = {cause: rank for rank, cause in enumerate(_SPECIFIC)}
    return min(told, key=lambda item: order.get(item[0], len(order)), default=None)


def refusal(record: Record, task: JobTask, cause: str, retries: dict[str, int]) -> str | None:
    """Why a run that ended by `cause` is not tried again in this job; None if it is."""
    if cause not in BUDGETS:
        return f"{cause} is not tried again"
    here = [attempt for attempt in record.attempts if attempt.job == task.job]
    if cause == "time-out" and len(here) > 1 and all(_came_no_further(attempt) for attempt in here[-2:]):
        return "two attempts in a row came no further within the time limit: give a longer cluster.time"
    allowed = retries[BUDGETS[cause]]
    same = [name for name, budget in BUDGETS.items() if budget == BUDGETS[cause]]
    used = sum(attempt.outcome in same for attempt in here)
    if used <= allowed:
        return None
    if allowed == 0:
        return f"not tried again (cluster.retries.{BUDGETS[cause]} is 0)"
    times = "1 time" if allowed == 1 else f"{allowed} times"
    return f"tried again {times}, as often as cluster.retries.{BUDGETS[cause]} allows"


def refuse_superseded(record: Record, task: JobTask) -> None:
    """Raise RunLockedError if Slurm has started this job again since: what this start does is not wanted any more."""
    starts = [attempt.restart or 0 for attempt in record.attempts if attempt.job == task.job]
    if starts and max(starts) > task.restart:
        raise RunLockedError(f"job {task.job} was started again on {record.attempts[-1].nodes}: this start ends")


def has_begun(record: Record, task: JobTask) -> bool:
    """Whether the record's last attempt is this one."""
    return record.last is not None and (record.last.job, record.last.restart) == (task.job, task.restart)


def end_attempt(record: Record, task: JobTask, cause: str, message: str, retries: dict[str, int]) -> str | None:
    """Close the attempt in the record. Returns why the run is not tried again; None if it is."""
    record.end(cause, message)
    found = refusal(record, task, cause, retries)
    if found is not None and cause in BUDGETS:
        record.end(cause, f"{message}; {found}")
    return found


def is_requeued(task: JobTask) -> bool:
    """Whether Slurm has put the job back into the queue already: preempted, or requeued by somebody."""
    return _is_queued_again(queue.describe(task.job), task)


def _is_queued_again(job: dict[str, str], task: JobTask) -> bool:
    return int(job.get("Restarts", 0)) > task.restart or job.get("JobState") == "PENDING"


def _came_no_further(attempt: Attempt) -> bool:
    return attempt.outcome == "time-out" and attempt.to_iteration <= attempt.from_iteration


def _cause_without_a_word(last: Attempt, task: JobTask) -> tuple[str, str]:
    if last.job is None:
        return "killed", "its process is gone without a word"
    warning = read_warning(f"{last.job}.{last.restart}")
    lost = _failed_nodes(last.nodes or "", last.started)
    if lost:
        return "node failure", lost
    if warning is not None:
        return warning
    if last.job == task.job:
        return "requeued", "Slurm started the job again, for a reason that it did not give (scontrol requeue?)"
    return "killed", f"job {last.job} is gone without a word"


def _failed_nodes(nodes: str, since: float) -> str:
    """Which of a job's nodes failed, in one line; "" if none did."""
    lost = [node["NodeName"] for node in queue.describe_nodes(nodes) if _has_failed(node, since)]
    return f"{', '.join(lost)} failed or lost contact" if lost else ""


def _has_failed(node: dict[str, str], since: float) -> bool:
    """Whether a node is not in order, or was booted since then."""
    words = node.get("State", "").split("+")
    silent = any(word.endswith("*") for word in words)
    started = max(_time(node.get("BootTime", "")), _time(node.get("SlurmdStartTime", "")))
    return silent or bool(_LOST & {word.rstrip("*") for word in words}) or started > since


def _said(folder: Path, task: JobTask) -> str:
    """What Slurm and the tasks wrote to the job's error output since this attempt began."""
    texts = (path.read_text(errors="replace") for path in folder.glob(f"{task.job}_*_log.err"))
    return "\n".join(text.rpartition(f"{task.token} ")[2] for text in texts)


def _seconds_until(moment: str) -> float:
    return _time(moment) - time.time() if _time(moment) else float("inf")


def _time(moment: str) -> float:
    """A time as Slurm prints it (local, ISO) in seconds since the epoch; 0 if it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return 0.0

"""From runs to job arrays: within the cluster's array size and one cap on running tasks, recorded before submission."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env

from dynamic_rcnn.run.process_env import variable
from slurm.cli import SlurmError, error_line, portions
from slurm.site_profile import Profile
from slurm.submission_record import Chunk, Submission

_KEPT = "SLURM_CONF"  # names the cluster; other variables describe a job in which the launcher may be


_LOST_ANSWER = re.compile(r"timed out|zero bytes", re.IGNORECASE)


class UnansweredError(SlurmError):
    """sbatch got no answer: the job array may have been submitted."""


@dataclass(frozen=True)
class Array:
    """A planned job array.

    runs: one per task. throttle: how many tasks run at a time. after: Slurm's dependencies. needs: indices of arrays of
    this submission that must succeed first. behind: indices of arrays that must end first.
    """

    runs: list[str]
    throttle: int
    after: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()


def arrays(
    start: Sequence[str],
    runs: Sequence[str],
    start_jobs: Sequence[str],
    busy: Sequence[str],
    most: int,
    cap: int | None,
    last: Sequence[str] = (),
) -> list[Array]:
    """Plan the job arrays for `runs`.

    Args:
        start: the runs that others start from. All others wait until all of these have succeeded.
        runs: the others, without `last`.
        start_jobs: jobs in the queue of runs that others start from.
        busy: this grid's jobs in the queue; they count for the cap.
        most: the number of tasks that an array may have.
        cap: the number of tasks that may run at a time, over all arrays; None for no limit.
        last: runs that need others of the grid; they run after all others have ended, with or without success.
    """
    in_queue = tuple(f"afterany:{job}" for job in sorted({job.split("_")[0] for job in busy}))
    free = cap - len(busy) if cap is not None else None
    waits: tuple[str, ...] = ()
    if cap is not None and free is not None and free <= 0:
        waits, free = in_queue, cap
    found: list[Array] = []
    for number, part in enumerate(portions(start, most)):
        found.append(Array(part, min(free or len(part), len(part)), waits, (), (number - 1,) if number else ()))
    needs = tuple(range(len(found)))
    started = tuple(f"afterok:{job}" for job in start_jobs)
    parts = portions(runs, most)
    lanes = min(len(parts), free) if free is not None else len(parts)
    for number, part in enumerate(parts):
        throttle = len(part) if free is None else max(1, free // lanes + (number % lanes < free % lanes))
        behind: tuple[int, ...] = () if number < lanes else (len(found) - lanes,)
        found.append(Array(part, min(throttle, len(part)), waits + started, needs, behind))
    for number, part in enumerate(portions(last, most)):
        behind = (len(found) - 1,) if number else tuple(range(len(needs), len(found)))
        found.append(Array(part, min(cap or len(part), len(part)), in_queue + started, needs, behind))
    return found


def submit(submission: Submission, wanted: Sequence[Array], profile: Profile) -> Iterator[Submission]:
    """Submit each array, yield the submission with its job id, and write it.

    Raises SlurmError if Slurm refuses an array; earlier ones stay submitted.
    """
    for index, array in enumerate(wanted):
        after = list(array.after)
        for kind, earlier in (("afterok", array.needs), ("afterany", array.behind)):
            after += [f"{kind}:{submission.chunks[number].job}" for number in earlier]
        submission = submission.with_job(index, _sbatch(_executor(submission, index, array, after, profile), index))
        submission.write()
        yield submission


def script(submission: Submission, index: int, array: Array, profile: Profile) -> str:
    """The batch script of an array as `submit` passes it to sbatch, without dependencies on jobs not yet submitted."""
    executor = _executor(submission, index, array, list(array.after), profile)
    return executor._make_submission_file_text(executor.task_command, "")


class _ArrayExecutor(SlurmExecutor):
    """submitit's executor for a command instead of a pickled function: a task's index determines what it does."""

    task_command = ""


def _executor(
    submission: Submission, index: int, array: Array, after: Sequence[str], profile: Profile
) -> _ArrayExecutor:
    folder = shlex.quote(str(submission.folder))
    inside, outside = profile.python or shlex.quote(sys.executable), shlex.quote(sys.executable)
    parameters = profile.sbatch_parameters(submission.chunks[index].name)
    extra = {**parameters.pop("additional_parameters", {}), "chdir": submission.code}
    if after:
        extra |= {"dependency": ",".join(after), "kill-on-invalid-dep": "yes"}
    code = shlex.quote(submission.code)
    epilogue = f"{outside} -m slurm.epilogue {folder} {index}"
    setup = [
        f"export {variable('began')}=$(date +%s)",
        *_guarded(parameters.pop("setup", []), f"cd {code}; {epilogue}", profile.setup_must_succeed),
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        "trap : TERM  # after a scancel, the script first records how the run ended",
    ]
    teardown = ["code=$?", f"{epilogue} $code 1"]
    executor = _ArrayExecutor(submission.folder)
    executor.task_command = f"{inside} -u -m slurm.supervisor {folder} {index}"
    executor.update_parameters(
        **parameters, setup=setup, teardown=teardown, array_parallelism=array.throttle, additional_parameters=extra
    )
    executor.parameters["map_count"] = len(array.runs)
    return executor


def _guarded(setup: Sequence[str], epilogue: str, must_succeed: bool) -> list[str]:
    """The lines of setup of a profile. If one ends the script, or fails though it must not, the epilogue records it."""
    if not setup:
        return []
    on_error = """trap 'code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || setup_ended $code "$BASH_COMMAND"' ERR"""
    return [
        f'setup_ended() {{ trap - ERR EXIT; echo "cluster.setup: exit code $1: $2" >&2; {epilogue} "$1" 0; exit; }}',
        """trap 'setup_ended $? "$BASH_COMMAND"' EXIT""",
        *([f"{on_error}  # not for commands of a script that a line reads"] if must_succeed else []),
        *setup,
        "trap - ERR EXIT",
    ]


def _sbatch(executor: _ArrayExecutor, index: int) -> str:
    conf = os.environ.get(_KEPT)
    stderr = io.StringIO()
    try:
        with clean_env(), contextlib.redirect_stderr(stderr):
            if conf is not None:
                os.environ[_KEPT] = conf
            return str(executor._submit_command(executor.task_command).job_id)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        reason = error_line(stderr.getvalue() or str(error))
        if _LOST_ANSWER.search(reason):
            raise UnansweredError(f"sbatch may not have submitted job array {index + 1}: {reason}") from None
        raise SlurmError(f"sbatch refused job array {index + 1}: {reason}") from None


def begin(
    folder: Path,
    runs: Path,
    grid: str,
    wanted: Sequence[Array],
    code: Path,
    trainer: Sequence[str],
    profile: Profile,
    command: str = "",
) -> Submission:
    """Make the record of a submission, not yet written. `folder` is that of all submissions: this one gets its own."""
    token = os.urandom(3).hex()
    now = time.time()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    chunks = [Chunk(name=f"{grid}-{token}-{index}", runs=array.runs) for index, array in enumerate(wanted)]
    return Submission(
        folder=folder / f"{stamp}-{token}",
        runs=str(runs),
        grid=grid,
        created=now,
        command=command,
        code=str(code),
        trainer=list(trainer),
        retries=profile.retries.model_dump(),
        stall_s=60.0 * profile.stall_minutes,
        warning_s=float(profile.warning_seconds),
        preflight=profile.preflight,
        chunks=chunks,
    )

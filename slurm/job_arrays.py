"""From runs to job arrays: within the cluster's array size and one cap on running tasks, recorded before submission."""

from __future__ import annotations

import contextlib
import io
import os
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
from slurm.cli import SlurmError
from slurm.site_profile import Profile
from slurm.submission_record import Chunk, Submission

_KEPT = "SLURM_CONF"  # names the cluster; other variables describe a job in which the launcher may be


@dataclass(frozen=True)
class Array:
    """A planned job array.

    runs: one per task. throttle: how many tasks run at a time. after: Slurm's dependencies. behind: indices of arrays
    of this submission that must end first, with success if `behind_must_succeed`.
    """

    runs: list[str]
    throttle: int
    after: tuple[str, ...] = ()
    behind: tuple[int, ...] = ()
    behind_must_succeed: bool = False


def arrays(
    start: str | None,
    runs: Sequence[str],
    start_job: str | None,
    busy: Sequence[str],
    most: int,
    cap: int | None,
    last: Sequence[str] = (),
) -> list[Array]:
    """Plan the job arrays for `runs`.

    Args:
        start: the run that the others start from, if it has to run first.
        runs: the other runs.
        start_job: the job of `start`, if it is in the queue.
        busy: this grid's jobs in the queue; they count for the cap.
        most: how many tasks an array may have.
        cap: how many tasks may run at a time, over all arrays.
        last: runs that need others of the grid; they run after all others have ended, with or without success.
    """
    free = cap - len(busy) if cap is not None else None
    waits: tuple[str, ...] = ()
    if cap is not None and free is not None and free <= 0:
        waits, free = tuple(f"afterany:{job}" for job in sorted({job.split("_")[0] for job in busy})), cap
    first = [Array([start], 1, waits)] if start is not None else []
    after = waits if start_job is None else (*waits, f"afterok:{start_job}")
    parts = [list(runs[at : at + most]) for at in range(0, len(runs), most)]
    lanes = min(len(parts), free) if free is not None else len(parts)
    others = []
    for number, part in enumerate(parts):
        throttle = len(part) if free is None else max(1, free // lanes + (number % lanes < free % lanes))
        lane_before = len(first) + number - lanes
        if number >= lanes:
            others.append(Array(part, min(throttle, len(part)), after, (lane_before,)))
        elif first:
            others.append(Array(part, min(throttle, len(part)), after, (0,), behind_must_succeed=True))
        else:
            others.append(Array(part, min(throttle, len(part)), after))
    return [*first, *others, *_last_arrays(last, len(first) + len(others), busy, most, cap)]


def _last_arrays(runs: Sequence[str], before: int, busy: Sequence[str], most: int, cap: int | None) -> list[Array]:
    """The arrays for runs that wait for the `before` first arrays of this submission and for the jobs in the queue."""
    waits = tuple(f"afterany:{job}" for job in sorted({job.split("_")[0] for job in busy}))
    parts = [list(runs[at : at + most]) for at in range(0, len(runs), most)]
    found: list[Array] = []
    for part in parts:
        behind = tuple(range(before)) if not found else (before + len(found) - 1,)
        found.append(Array(part, min(cap or len(part), len(part)), waits, behind))
    return found


def submit(submission: Submission, wanted: Sequence[Array], profile: Profile) -> Iterator[Submission]:
    """Submit each array.

    Args:
        submission: has been written; is written again with each job id.
        wanted: the arrays, one per chunk.
        profile: of the cluster.

    Yields:
        The submission with one more job id.

    Raises:
        SlurmError: Slurm refused an array; earlier ones stay submitted.
    """
    for index, array in enumerate(wanted):
        after = list(array.after)
        kind = "afterok" if array.behind_must_succeed else "afterany"
        after += [f"{kind}:{submission.chunks[earlier].job}" for earlier in array.behind]
        submission = submission.with_job(index, _sbatch(_executor(submission, index, array, after, profile), index))
        submission.write()
        yield submission


def script(submission: Submission, index: int, array: Array, profile: Profile) -> str:
    """The batch script of an array as `submit` passes it to sbatch, without dependencies on jobs not yet submitted."""
    executor = _executor(submission, index, array, list(array.after), profile)
    return executor._make_submission_file_text(executor.task_command, "")


class _ArrayExecutor(SlurmExecutor):
    """submitit's executor for a command in place of a pickled function: a task's index determines what it does."""

    task_command = ""


def _executor(
    submission: Submission, index: int, array: Array, after: Sequence[str], profile: Profile
) -> _ArrayExecutor:
    place = shlex.quote(str(submission.folder))
    inside, outside = profile.python or shlex.quote(sys.executable), shlex.quote(sys.executable)
    parameters = profile.sbatch_parameters(submission.chunks[index].name)
    extra = {**parameters.pop("additional_parameters", {}), "chdir": submission.code}
    if after:
        extra |= {"dependency": ",".join(after), "kill-on-invalid-dep": "yes"}
    code = shlex.quote(submission.code)
    setup = [
        *parameters.pop("setup", []),
        f"export {variable('began')}=$(date +%s)",
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        "trap : TERM  # after a scancel, the script first records how the run ended",
    ]
    teardown = ["code=$?", f"{outside} -m slurm.epilogue {place} {index} $code"]
    executor = _ArrayExecutor(submission.folder)
    executor.task_command = f"{inside} -u -m slurm.supervisor {place} {index}"
    executor.update_parameters(
        **parameters, setup=setup, teardown=teardown, array_parallelism=array.throttle, additional_parameters=extra
    )
    executor.parameters["map_count"] = len(array.runs)
    return executor


def _sbatch(executor: _ArrayExecutor, index: int) -> str:
    conf = os.environ.get(_KEPT)
    stderr = io.StringIO()
    try:
        with clean_env(), contextlib.redirect_stderr(stderr):
            if conf is not None:
                os.environ[_KEPT] = conf
            return str(executor._submit_command(executor.task_command).job_id)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        words = " ".join((stderr.getvalue() or str(error)).split())
        raise SlurmError(f"sbatch refused job array {index + 1}: {words}") from None


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
    """Make the record of a submission, not yet written.

    Args:
        folder: of all submissions; this one gets a new folder in it.
        runs: the run folder.
        grid: its name.
        wanted: the arrays.
        code: folder of the frozen code.
        trainer: arguments of Python that train a run.
        profile: of the cluster.
        command: the launch's command line.
    """
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
        chunks=chunks,
    )

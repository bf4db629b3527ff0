"""What was submitted: submission.json, written before the first job is.

    runs/<dataset>/.slurm/<time>-<token>/submission.json, the jobs' scripts and their output

A chunk is one job array, and has a name that no other job has. Which run a job in the queue trains follows from the
job's name and its index alone: a launcher that was killed between two submissions, or before it wrote an id down, has
lost nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import SCHEMA, read_json, write_json_atomic
from slurm.cli import QueuedJob

FOLDER = ".slurm"
FILE = "submission.json"


@dataclass(frozen=True)
class Chunk:
    """A job array. runs: each task's run directory, below the run folder; job: the array's id, once it is known."""

    name: str
    runs: list[str]
    job: str | None = None


@dataclass(frozen=True)
class Submission:
    """What one launch submitted. runs: the run folder; trainer: what Python is called with to
    train the run in the working directory.

    code: the frozen code; retries: how many a cause is given; stall_s: after this long without progress a run is ended;
    warning_s: how long before the time limit it is warned.
    """

    folder: Path
    runs: str
    grid: str
    created: float
    command: str
    code: str
    trainer: list[str]
    retries: dict[str, int]
    stall_s: float
    warning_s: float
    chunks: list[Chunk]

    def write(self) -> None:
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json_atomic(self.folder / FILE, {"schema": SCHEMA, **content})

    def with_job(self, index: int, job: str) -> Submission:
        """With the id of a chunk's array."""
        chunks = list(self.chunks)
        chunks[index] = replace(chunks[index], job=job)
        return replace(self, chunks=chunks)

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Raises UserError for a file that is missing, damaged or foreign."""
        way_out = f"cancel its jobs (squeue --me; their names hold {folder.name[-6:]!r}), then move that folder away"
        try:
            value: dict[str, Any] = read_json(folder / FILE)
            value.pop("schema")
            chunks = [Chunk(**chunk) for chunk in value.pop("chunks")]
            if not all(isinstance(chunk.runs, list) and isinstance(chunk.name, str) for chunk in chunks):
                raise TypeError("a chunk must have a name and a list of runs")
            return cls(folder=folder, chunks=chunks, **value)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / FILE}: no submission ({error}); {way_out}") from None
        except UserError as error:
            raise UserError(f"{error}; {way_out}") from None


def submissions_folder(runs: Path, dataset: str) -> Path:
    return runs / dataset / FOLDER


def read_all(runs: Path, dataset: str) -> list[Submission]:
    """Every submission for a data set, oldest first; [] without any."""
    return [Submission.read(path.parent) for path in sorted(submissions_folder(runs, dataset).glob(f"*/{FILE}"))]


def runs_and_jobs(submissions: Iterable[Submission], active: Iterable[QueuedJob]) -> list[tuple[str, QueuedJob]]:
    """(run, as its directory below the run folder; job) for each job in the queue that trains a run."""
    runs = {chunk.name: chunk.runs for submission in submissions for chunk in submission.chunks}
    known = (job for job in active if job.index < len(runs.get(job.name, ())))
    return [(runs[job.name][job.index], job) for job in known]


def jobs_by_run(submissions: Iterable[Submission], active: Iterable[QueuedJob]) -> dict[str, QueuedJob]:
    """Run -> its job in the queue; of several the newest."""
    return dict(runs_and_jobs(submissions, active))


def last_job(submissions: Sequence[Submission]) -> dict[str, str]:
    """Run -> the id of the newest job that was submitted for it."""
    return {
        run: f"{chunk.job}_{index}"
        for submission in submissions
        for chunk in submission.chunks
        if chunk.job is not None
        for index, run in enumerate(chunk.runs)
    }

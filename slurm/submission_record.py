"""submission.json: what one launch submitted, written before the first of its jobs.

    runs/<dataset>/.slurm/<time>-<token>/submission.json, the jobs' scripts and their output

A chunk is one job array, with a name that no other job has. The name and index of a job in the queue thus identify its
run: nothing is lost if the launcher is killed between two submissions, or before it writes down a job id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import FileContent, Part, read_content, write_content
from slurm.cli import QueuedJob

FOLDER = ".slurm"
FILE = "submission.json"


class Chunk(Part):
    """A job array. runs: each task's run directory, relative to the run folder. job: the array's id, once known."""

    name: str
    runs: list[str]
    job: str | None = None


class Submission(FileContent):
    """What one launch submitted.

    folder: of this record. runs: the run folder. created: seconds since the epoch. command: the launch's command line.
    code: folder of the frozen code. trainer: arguments of Python that train the run in the working directory.
    retries: how often a run is retried, by retry budget. stall_s: seconds without progress after which a run is
    ended. warning_s: how many seconds before the time limit it is warned. preflight: whether nodes are checked first.
    """

    folder: Path = Field(default=Path(), exclude=True)
    runs: str
    grid: str
    created: float
    command: str
    code: str
    trainer: list[str]
    retries: dict[str, int]
    stall_s: float
    warning_s: float
    preflight: bool = False
    chunks: list[Chunk]

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Read the record in `folder`. Raises UserError for a file that is missing, damaged or foreign."""
        way_out = f"cancel its jobs (squeue --me; their names contain {folder.name[-6:]!r}), then move that folder away"
        try:
            return read_content(cls, folder / FILE).model_copy(update={"folder": folder})
        except UserError as error:
            raise UserError(f"{error}; {way_out}") from None

    @property
    def written(self) -> float:
        """When the record was last written, in seconds since the epoch."""
        return (self.folder / FILE).stat().st_mtime

    def write(self) -> None:
        write_content(self.folder / FILE, self)

    def with_job(self, index: int, job: str) -> Submission:
        """A copy with the job id of a chunk."""
        chunks = list(self.chunks)
        chunks[index] = chunks[index].model_copy(update={"job": job})
        return self.model_copy(update={"chunks": chunks})

    def run_dir(self, chunk: int, index: int) -> Path:
        """The run directory of a task."""
        return Path(self.runs) / self.chunks[chunk].runs[index]


def check_runs_folder(runs: Path) -> None:
    """Raises UserError for characters that Slurm and submitit interpret in paths."""
    bad = [character for character in "%\\\n" if character in str(runs)]
    if bad:
        raise UserError(
            f"runs={str(runs)!r}: Slurm cannot write to a folder with {bad[0]!r} in its name; choose another"
        )


def submissions_folder(runs: Path, dataset: str) -> Path:
    return runs / dataset / FOLDER


def read_all(runs: Path, dataset: str) -> list[Submission]:
    """Every submission for a data set, oldest first."""
    return [Submission.read(path.parent) for path in sorted(submissions_folder(runs, dataset).glob(f"*/{FILE}"))]


def runs_and_jobs(submissions: Iterable[Submission], active: Iterable[QueuedJob]) -> list[tuple[str, QueuedJob]]:
    """(run directory relative to the run folder, job) for each job in the queue that trains a run."""
    runs = {chunk.name: chunk.runs for submission in submissions for chunk in submission.chunks}
    known = (job for job in active if job.index < len(runs.get(job.name, ())))
    return [(runs[job.name][job.index], job) for job in known]


def jobs_by_run(submissions: Iterable[Submission], active: Iterable[QueuedJob]) -> dict[str, QueuedJob]:
    """Run -> its job in the queue; the newest if there are several."""
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

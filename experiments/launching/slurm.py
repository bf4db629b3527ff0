"""Submit the missing runs of a grid to Slurm and return; cancel them; show the batch script."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import finish_swap
from dynamic_rcnn.run.directory import RunLockedError, locked
from experiments.config.grid import Grid
from experiments.launching.local import look_at_data, move_stale_aside, wanted_runs
from experiments.launching.lock import launcher_lock, refuse_second
from experiments.planning import cost
from experiments.planning.manifest import manifest_path, read_cells, write_manifest
from experiments.planning.plan import make_plan, plan_or_disk
from experiments.planning.run_state import FINAL, PlannedRun
from experiments.planning.slurm_state import below, queued_jobs
from experiments.views import tables
from slurm import cli as queue
from slurm.cli import QueuedJob, SlurmError
from slurm.code_snapshot import freeze, frozen_place
from slurm.job_arrays import Array, arrays, begin, submit
from slurm.job_arrays import script as batch_script
from slurm.site_profile import Profile
from slurm.submission_record import Submission, read_all, runs_and_jobs, submissions_folder

CODE = ".code"
TRAINER = ("-m", "dynamic_rcnn.train", ".")  # arguments of the job's Python
_PATIENCE_S = 120.0
_SBATCH_S = 45.0  # from the beginning of a submission, for one sbatch


def launch(grid: Grid, runs: Path, cluster: DictConfig, rerun: str, arguments: Sequence[str]) -> int:
    """Submit what is neither done nor in the queue. Returns 0, or 1 if some run cannot be submitted."""
    profile = _profile(cluster)
    _check_folder(runs)
    refuse_second(grid, runs)
    read_cells(manifest_path(grid, runs))
    folder = submissions_folder(runs, grid.dataset)
    if any(run.to_launch or run.state == rerun for run in make_plan(grid, runs)):
        look_at_data(grid)
    with launcher_lock(grid, runs):
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            _wait_for_half_submitted(runs, grid)
            plan = make_plan(grid, runs)
            anew = [replace(run, state="new", iteration=0) if run.state == rerun else run for run in plan]
            cost.refuse_above(grid, runs, anew, profile)
            moved: dict[Path, Path] = {}
            if rerun == "stale":
                _refuse_new_start(grid, runs, plan)
                moved = move_stale_aside(plan)
                plan = make_plan(grid, runs)
            wanted = [run for run in wanted_runs(plan) if run.to_launch]
            write_manifest(grid, runs, {run.spec.id: run.path for run in plan})
            try:
                if wanted:
                    _submit(grid, runs, plan, wanted, profile, arguments)
            except SlurmError:
                _put_back(grid, runs, moved)
                raise
    return _report(make_plan(grid, runs))


def cancel(grid: Grid, runs: Path) -> list[str]:
    """Take the grid's jobs out of the queue; what runs writes a checkpoint first. Returns what was cancelled."""
    mine = {below(run.path, runs): run.spec.name for run in make_plan(grid, runs)}
    pairs = runs_and_jobs(read_all(runs, grid.dataset), queue.active())
    found = [(mine[run], job.job) for run, job in pairs if run in mine]
    queue.cancel([job for _, job in found])
    return [f"{name} (job {job})" for name, job in found]


def script(grid: Grid, runs: Path, cluster: DictConfig) -> str:
    """The batch scripts of the arrays that a launch would submit; nothing is submitted or written."""
    profile = _profile(cluster)
    _check_folder(runs)
    plan, silence = plan_or_disk(grid, runs)
    wanted = [run for run in wanted_runs(plan) if run.to_launch]
    if not wanted:
        return "nothing is to be submitted"
    try:
        most = queue.max_array_size()
    except SlurmError:  # it is asked for on a machine without the cluster
        most = len(wanted)
    jobs = queued_jobs(grid, runs) if silence is None else {}
    parts = _parts(grid, runs, plan, wanted, profile, jobs, most)
    folder = submissions_folder(runs, grid.dataset)
    submission = begin(folder, runs, grid.name, parts, frozen_place(runs / CODE), TRAINER, profile)
    return "\n\n".join(batch_script(submission, index, part, profile) for index, part in enumerate(parts))


def _parts(
    grid: Grid,
    runs: Path,
    plan: list[PlannedRun],
    wanted: list[PlannedRun],
    profile: Profile,
    jobs: dict[str, QueuedJob],
    most: int,
) -> list[Array]:
    """The arrays for the runs that are wanted. jobs: in the queue; most: tasks of an array."""
    start = plan[0] if grid.pretrain else None
    start_job = jobs.get(below(start.path, runs)) if start is not None else None
    if start is not None and start not in wanted and start_job is None and start.state not in FINAL:
        state = f"{start.state}{': ' + start.why if start.why else ''}"
        raise SlurmError(f"{start.spec.name}: {state}; the other runs start from it: launch again when it is done")
    return arrays(
        start=below(start.path, runs) if start is not None and start in wanted else None,
        runs=[below(run.path, runs) for run in wanted if run is not start and run.spec.replay is None],
        start_job=start_job.job if start_job else None,
        busy=[job.job for job in jobs.values()],
        most=most,
        cap=profile.max_parallel,
        last=[below(run.path, runs) for run in wanted if run.spec.replay is not None],
    )


def _submit(
    grid: Grid,
    runs: Path,
    plan: list[PlannedRun],
    wanted: list[PlannedRun],
    profile: Profile,
    arguments: Sequence[str],
) -> None:
    parts = _parts(grid, runs, plan, wanted, profile, queued_jobs(grid, runs), queue.max_array_size())
    for run in wanted:
        _write_spec(run)
    folder, code = submissions_folder(runs, grid.dataset), freeze(runs / CODE)
    command = shlex.join(["python", "experiments/launch.py", *arguments])
    submission = begin(folder, runs, grid.name, parts, code, TRAINER, profile, command)
    submission.folder.mkdir(parents=True)
    submission.write()
    submitted = 0
    try:
        for known in submit(submission, parts, profile):
            submission, submitted = known, submitted + 1
            _announce(known, submitted - 1, parts[submitted - 1])
    except SlurmError as error:
        if not submitted:
            shutil.rmtree(submission.folder)
            raise
        replace(submission, chunks=submission.chunks[:submitted]).write()
        raise SlurmError(f"{error}; what was submitted before stays in the queue") from None


def _wait_for_half_submitted(runs: Path, grid: Grid) -> None:
    """The sbatch of a launcher that was killed may still be talking to Slurm: its job has a name and no id yet."""
    told = False
    while True:
        names = {
            chunk.name
            for submission in read_all(runs, grid.dataset)
            if time.time() - submission.created < _SBATCH_S
            for chunk in submission.chunks
            if chunk.job is None
        }
        if not names or not names - {job.name for job in queue.active()}:
            return
        if not told:
            print(f"a launcher was cut short: waiting at most {_SBATCH_S:.0f} s for what it submitted", flush=True)
        told = True
        time.sleep(1.0)


def _refuse_new_start(grid: Grid, runs: Path, plan: list[PlannedRun]) -> None:
    """Runs that wait in the queue would find what they need of a stale run gone, or another."""
    stale = [run for run in plan if run.state == "stale" and any(run.spec.id in other.spec.needs for other in plan)]
    if stale and queued_jobs(grid, runs):
        raise SlurmError(
            f"rerun=stale: {stale[0].spec.name} is stale, and runs that may need it are in the queue; "
            "wait for them, or cancel them first"
        )


def _put_back(grid: Grid, runs: Path, moved: dict[Path, Path]) -> None:
    """Undo what was moved aside for runs that Slurm then refused."""
    jobs = queued_jobs(grid, runs)
    for path, aside in moved.items():
        if below(path, runs) not in jobs:
            shutil.rmtree(path)
            aside.rename(path)
            print(f"{aside.name}: moved back", flush=True)


def _check_folder(runs: Path) -> None:
    """Slurm and submitit give some characters in paths a meaning of their own."""
    bad = [character for character in "%\\\n" if character in str(runs)]
    if bad:
        raise UserError(
            f"runs={str(runs)!r}: Slurm cannot write to a folder with {bad[0]!r} in its name; choose another"
        )


def _write_spec(run: PlannedRun) -> None:
    """What does not change the result, such as where the data lie, may have changed since the run was begun."""
    finish_swap(run.path)
    dataset: dict[str, Any] = dict(run.spec.dataset)
    if dataset.get("root") is None:  # the job's code is a copy, and its project's folder another one
        dataset["root"] = str(datasets.SHAPES_ROOT)
    replace(run.spec, arm=run.path.parent.name, dataset=dataset).write(run.path)


def _announce(submission: Submission, index: int, array: Array) -> None:
    chunk = submission.chunks[index]
    size = len(array.runs)
    runs = array.runs[0] if size == 1 else f"{size} runs, {array.throttle} at a time"
    print(f"job {chunk.job}: {runs}", flush=True)


def _report(plan: list[PlannedRun]) -> int:
    print(tables.counts(plan))
    if any(run.state in ("queued", "running") for run in plan):
        print("the jobs go on without this terminal; action=status shows them, launching again submits what is missing")
    return 1 if any(run.state in ("new", "failed") for run in plan) else 0


def _profile(cluster: DictConfig) -> Profile:
    return Profile.from_dict(OmegaConf.to_container(cluster, resolve=True))


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Grids share runs, such as a pretraining: two launchers must not both submit one."""
    try:
        with locked(folder, _PATIENCE_S):
            yield
    except RunLockedError:
        raise SlurmError(f"{folder}: another launcher is submitting runs of this data set; try again") from None

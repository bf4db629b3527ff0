"""What launching on this machine and launching on Slurm have in common."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.claim import finish_swap
from dynamic_rcnn.run.files import METRICS, SPEC, free_name
from dynamic_rcnn.run.lock import is_locked
from dynamic_rcnn.run.reuse import reuse
from dynamic_rcnn.run.spec import EVALUATE, RunSpec
from experiments.config.grid import Grid
from experiments.launching.images import image_reports
from experiments.launching.lock import launcher_lock, refuse_second_launcher
from experiments.planning.directories import Directories
from experiments.planning.manifest import manifest_path, read_cells
from experiments.planning.run_state import PlannedRun


def wanted_runs(plan: Sequence[PlannedRun], running_here: bool = False) -> list[PlannedRun]:
    """The runs to start, one of each identity. running_here: also those that others run on this machine."""
    wanted: dict[str, PlannedRun] = {}
    for run in plan:
        if run.to_launch or (running_here and run.state == "running" and not run.in_queue):
            wanted.setdefault(run.spec.id, run)
    return list(wanted.values())


@contextmanager
def checked_launch(
    grid: Grid, runs: Path, rerun: str, decode: str, check_cluster: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Check the manifest, and if runs may start the cluster and the data; then write, and hold the launcher lock."""
    refuse_second_launcher(grid, runs)
    read_cells(manifest_path(grid, runs))
    directories = Directories(runs, grid.dataset)
    if rerun == "stale" or not all((directories.find(spec) / METRICS).exists() for spec in grid.all_runs):
        check_cluster()
        _check_data(grid, decode)
    with launcher_lock(grid, runs):
        yield


def _check_data(grid: Grid, decode: str) -> None:
    """Check the data set, and that its images decode; draw it if it is one of shapes."""
    dataset = grid.runs[0].dataset
    for drawn in [dataset, *(run.dataset for run in grid.pretrainings[:1])]:
        folder = datasets.to_draw(drawn)
        if folder is not None:
            images = sum(count for name, count in drawn["recipe"].items() if name.endswith("_images"))
            print(f"drawing {images} images of shapes into {folder} (only this once)", flush=True)
            datasets.prepare(drawn)
    for note in datasets.check(dataset, grid.task != EVALUATE, grid.has_masks, grid.min_size):
        print(f"note: {note}", flush=True)
    refused = []
    for split, report in image_reports(grid, decode):
        if report.problems.count:
            refused.append(f"{split} images: {report}")
            continue
        print("\n".join(f"{split} images: {line}" for line in [str(report), *report.notes]), flush=True)
    if refused:
        raise UserError("; ".join(refused))


def write_spec(run: PlannedRun, root: str | None = None) -> None:
    """Rewrite spec.json: neutral fields, such as the data set's root, may have changed since the last attempt.

    Nobody may be running the run. root: of its data set, if the spec names none.
    """
    finish_swap(run.path)
    if run.training is not None and not run.path.exists():
        reuse(run.spec, run.path, run.training)
        print(f"{run.spec.name}: reuses the training in {run.training.name}", flush=True)
    dataset = {**run.spec.dataset, "root": run.spec.dataset.get("root") or root}
    replace(run.spec, arm=run.path.parent.name, dataset=dataset).write(run.path)


def launch_command(arguments: Sequence[str]) -> str:
    """The command line of this launch, for the record."""
    return shlex.join(["python", "experiments/launch.py", *arguments])


def restart(plan: Sequence[PlannedRun], rerun: str) -> list[PlannedRun]:
    """`plan` with the runs in the state `rerun` as new ones."""
    return [PlannedRun(run.spec, run.path, "new", "", 0, run.iterations) if run.state == rerun else run for run in plan]


@contextmanager
def moved_aside(
    plan: Sequence[PlannedRun], rerun: str, submitted: Callable[[], Collection[Path]] = tuple
) -> Iterator[None]:
    """Rename the directories of runs in the state `rerun`, and back at the end unless their new runs have started.

    submitted: returns the directories of runs that wait in Slurm's queue, which are not moved back either.
    """
    moved: dict[Path, Path] = {}
    try:
        for run in plan:
            if run.state == rerun and run.path not in moved:  # arms of one identity share a directory
                _move_aside(run, moved)
        yield
    finally:
        idle = [path for path in moved if not _has_started(path)]
        waiting = _waiting(submitted) if idle else ()
        for path in idle:
            if path not in waiting:
                _move_back(path, moved[path])


def _waiting(submitted: Callable[[], Collection[Path]]) -> Collection[Path]:
    """What `submitted` returns; nothing if a damaged submission hides it, so that runs are moved back all the same."""
    try:
        return submitted()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return ()


def _move_aside(run: PlannedRun, moved: dict[Path, Path]) -> None:
    """Rename the run's directory, begin a new one under the arm's name that other grids use, and note both."""
    aside = free_name(run.path, "stale")
    moved[run.path] = aside  # noted first: an interrupt between the two lines must not leave the run aside
    run.path.rename(aside)
    RunSpec.read(aside).write(run.path)
    print(f"{run.spec.name}: stale, moved to {aside.name}", flush=True)


def _has_started(path: Path) -> bool:
    """Whether a process holds the directory's lock or has written into it: a launcher leaves it with the spec alone."""
    return is_locked(path) or any(
        item.name != SPEC and item.is_file() and item.stat().st_size for item in path.rglob("*")
    )


def _move_back(path: Path, aside: Path) -> None:
    if not aside.exists():
        return
    try:
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
        print(f"{aside.name}: moved back", flush=True)
    except OSError as error:
        print(f"{aside}: cannot be moved back ({error.strerror}); rename it to {path.name}", flush=True)

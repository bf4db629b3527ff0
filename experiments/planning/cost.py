"""The hours that a grid still needs: seconds per iteration, measured or declared, times the iterations left."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.batch import batch_size
from dynamic_rcnn.run.files import PROVENANCE, read_content
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.spec import EPOCH, EVALUATE, TRAIN, RunSpec, digest
from dynamic_rcnn.wording import plural
from experiments.config.conf_files import load_base
from experiments.config.grid import Grid
from experiments.planning.directories import Directories
from experiments.planning.last_rows import last_row
from experiments.planning.manifest import manifest_path, read_cells
from experiments.planning.run_state import PlannedRun

if TYPE_CHECKING:
    from slurm.site_profile import Profile

_ENOUGH = 20  # largest number of measured runs per model that are used
COCO_TRAINED_ON = 117_266  # training images with at least one box: one epoch
_METHOD = "dynamic_rcnn"  # the section of the method, which does not change the time of an iteration


@dataclass(frozen=True)
class StepTime:
    """Seconds per iteration of a run with all its processes, None if unknown, and where the figure comes from."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Cost:
    """Hours of training, if runs are trained one after another.

    Attributes:
        known: hours of the runs that a launch would start, as far as their cost is known.
        unknown: arms of the runs that a launch would start and whose cost is unknown.
        in_progress: hours left of the runs that are queued or running; None if unknown.
        step_times: arm -> step time, for all arms with runs that are not done.
    """

    known: float
    unknown: list[str]
    in_progress: float | None
    step_times: dict[str, StepTime]

    @property
    def to_launch(self) -> float | None:
        """Hours of the runs that a launch would start; None if the cost of one is unknown."""
        return None if self.unknown else self.known

    @property
    def sources(self) -> str:
        """The step times and where they come from, as text."""
        known = dict.fromkeys(step for step in self.step_times.values() if step.seconds is not None)
        return "; ".join(f"{step.seconds:.3f} s per iteration ({step.source})" for step in known)


def estimate(grid: Grid, runs: Path, plan: Sequence[PlannedRun], gpus: bool | None = None) -> Cost:
    """The cost of the unfinished runs of `plan`. gpus: use step times of GPUs, or of CPUs; None: of both."""
    trained = [run for run in plan if run.spec.task != EVALUATE]
    left = list({run.spec.id: run for run in trained if run.state not in ("done", "stale")}.values())
    step_times = _step_times(grid, runs, left, gpus)
    to_launch = [(run.spec.arm, _hours(run, step_times)) for run in left if run.to_launch]
    in_progress = [_hours(run, step_times) for run in left if run.state in ("queued", "running")]
    return Cost(
        known=_total(hours for _, hours in to_launch),
        unknown=list(dict.fromkeys(arm for arm, hours in to_launch if hours is None)),
        in_progress=None if None in in_progress else _total(in_progress),
        step_times=step_times,
    )


def refuse(cost: Cost, plan: Sequence[PlannedRun], profile: Profile) -> None:
    """Raise UserError if the profile does not allow the runs to be launched, or if their cost is unknown."""
    wanted = [run for run in plan if run.to_launch and run.spec.task != EVALUATE]
    if wanted:
        _check_hours(cost, wanted, profile)
        _check_time(cost, wanted, profile)


def spent_hours(plan: Iterable[PlannedRun]) -> tuple[float, int]:
    """Hours of all attempts so far, times the processes of each run, and the number of attempts."""
    runs = {run.path: run for run in plan}.values()
    seconds = []
    for run in runs:
        for attempt in run.attempts:  # without a recorded end, an attempt lasted until its last heartbeat
            end = attempt.ended or (run.status.heartbeat if run.status else None) or attempt.started
            seconds.append(run.spec.processes * max(0.0, end - attempt.started))
    return sum(seconds) / 3600, len(seconds)


def cost_lines(cost: Cost, plan: Sequence[PlannedRun], profile: Profile | None) -> list[str]:
    """The cost as text: of the unfinished runs, and on Slurm also of all attempts so far."""
    if all(run.spec.task == EVALUATE for run in plan):
        return ["cost: no training; one pass over the validation images"]
    unit, per_run = "hours", 1
    if profile is not None:
        unit, per_run = ("GPU-hours", profile.gpus) if profile.gpus else ("node-hours", profile.nodes)
    text = "cost: unknown until the first run has measured it"
    if cost.to_launch is not None or cost.known:
        text = f"cost: {cost.known * per_run:.2f} {unit} for the runs to launch"
        text += (", one at a time" if profile is None else "") + (f", at {cost.sources}" if cost.sources else "")
    left_out = ", ".join(cost.unknown) if cost.known else ""
    more = [f"not included: {left_out}, unknown until a run has measured it"] if left_out else []
    if profile is None:
        return [text, *more]
    size = plural("node", profile.nodes) + (f" x {plural('GPU', profile.gpus_per_node)}" if profile.gpus else "")
    texts = [f"{text}, {size} per run, a time limit of {profile.time / 60:.1f} hours", *more]
    if cost.in_progress:
        texts.append(f"queued and running: {cost.in_progress * per_run:.2f} {unit}")
    hours, attempts = spent_hours(plan)
    if attempts:
        spent = "GPU-hours" if profile.gpus else "process-hours"
        texts.append(f"spent: {hours:.2f} {spent}, in {plural('attempt', attempts)}")
    return texts


def _check_hours(cost: Cost, plan: Sequence[PlannedRun], profile: Profile) -> None:
    limit = profile.max_gpu_hours
    if limit is None or not profile.gpus:
        return
    if cost.to_launch is None or cost.in_progress is None:
        raise UserError(f"cluster.max_gpu_hours={limit:g}: {_why_unknown(cost, plan)}, or cluster.max_gpu_hours=null")
    hours = (cost.to_launch + cost.in_progress) * profile.gpus
    if hours > limit:
        raise UserError(
            f"cluster.max_gpu_hours={limit:g}: the remaining runs take {hours:.1f} GPU-hours, at {cost.sources}; "
            "choose fewer seeds= or arms=, or give a higher limit"
        )


def _why_unknown(cost: Cost, plan: Sequence[PlannedRun]) -> str:
    """Why the cost is unknown, and a setting that makes it known."""
    dataset = plan[0].spec.dataset["name"]
    if any(cost.step_times[run.spec.arm].seconds is None for run in plan if run.spec.arm in cost.step_times):
        rule = f"the seconds per iteration on {dataset} are unknown until a run has measured them"
        return f"{rule}; declare them with ++grid.cost.{dataset}=SECONDS"
    rule = f"the iterations per epoch on {dataset} are unknown until a run has started"
    return f"{rule}; give base.train.max_epochs=null base.train.max_iters=N"


def _check_time(cost: Cost, wanted: Sequence[PlannedRun], profile: Profile) -> None:
    """Refuse a time limit that is too short for a job to train from one evaluation to the next before the warning."""
    for run in {run.spec.arm: run for run in wanted}.values():
        train, step = run.spec.config["train"], cost.step_times[run.spec.arm]
        # The end of an epoch need not be reached: the job's successor continues from a checkpoint
        field = "checkpoint_interval" if train["val_interval"] in (0, EPOCH) else "val_interval"
        interval = min(train[field], _iterations(run) or train[field])
        seconds = interval * (step.seconds or 0.0)
        if seconds + profile.warning_seconds > profile.time * 60:
            raise UserError(
                f"cluster.time={profile.time} minutes: cannot hold one evaluation interval of {run.spec.name}, "
                f"{seconds / 60:.1f} minutes (base.train.{field}={train[field]} at {step.seconds:.3f} s per iteration, "
                f"{step.source}), and cluster.warning_seconds={profile.warning_seconds}; give a longer time or a "
                "shorter interval"
            )


def _hours(run: PlannedRun, step_times: dict[str, StepTime]) -> float | None:
    iterations, seconds = _iterations(run), step_times[run.spec.arm].seconds
    return None if iterations is None or seconds is None else max(0, iterations - run.iteration) * seconds / 3600


def _total(hours: Iterable[float | None]) -> float:
    return sum(value for value in hours if value is not None)


def _iterations(run: PlannedRun) -> int | None:
    """The iterations of the whole run. For runs whose length is in epochs, only COCO's is known before they start."""
    train = run.spec.config["train"]
    if run.iterations is None and run.spec.dataset["name"] == "coco":
        return int(train["max_epochs"] * -(-COCO_TRAINED_ON // batch_size(train)))
    return run.iterations


def _step_times(grid: Grid, runs: Path, wanted: Sequence[PlannedRun], gpus: bool | None) -> dict[str, StepTime]:
    """Arm -> the step time of its runs: measured by runs of the same model and processes, else declared."""
    kinds = {arm: _kind(spec) for arm, spec in {run.spec.arm: run.spec for run in wanted}.items()}
    measured = _measured(grid, runs, set(kinds.values()), gpus) if kinds else {}
    missing = set(kinds.values()) - set(measured)
    published = load_base(grid.base)["train"].get("processes", 1) if missing and not grid.timed_arms else 1
    return {
        arm: measured.get(kind) or _declared(grid, arm, wanted[0].spec.processes, published)
        for arm, kind in kinds.items()
    }


def _declared(grid: Grid, arm: str, processes: int, published: int) -> StepTime:
    """The grid's figure for the data set, scaled from the processes that the base is published with.

    The figure of shapes holds for every data set that is drawn from a recipe; others need one under their own name.
    """
    drawn = "shapes" if "recipe" in grid.runs[0].dataset else grid.dataset
    seconds = grid.seconds.get(grid.dataset, grid.seconds.get(drawn))
    if isinstance(seconds, dict):
        seconds = seconds.get(arm)
    if seconds is None:
        return StepTime(None, "unknown")
    count = plural("process", published)
    if published == processes:
        return StepTime(seconds, "declared in the grid" + (f" for {count}" if published > 1 else ""))
    return StepTime(seconds * published / processes, f"declared in the grid as {seconds} s for {count}")


def _measured(grid: Grid, runs: Path, kinds: set[str], gpus: bool | None) -> dict[str, StepTime]:
    """Kind -> the step time measured by runs of this grid, or else by runs of other grids in the run folder."""
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    arms = {arm: _kind(spec) for arm, spec in grid.specs.items()}
    in_grid = {runs / cell.path: arms.get(cell.arm, "") for cell in read_cells(manifest_path(grid, runs))}
    for path, kind in in_grid.items():
        _add(seconds, kind, path, gpus)
    if not all(seconds.values()):
        for path in Directories(runs, grid.dataset).all():
            if path not in in_grid:
                _add(seconds, None, path, gpus)
    return {
        kind: StepTime(statistics.median(values), f"measured over {plural('run', len(values))}")
        for kind, values in seconds.items()
        if values
    }


def _add(seconds: dict[str, list[float]], kind: str | None, path: Path, gpus: bool | None) -> None:
    """Add the step time of the run in `path`, unless enough are known. kind: the run's; None to read its spec."""
    if kind is not None and len(seconds.get(kind, [None] * _ENOUGH)) >= _ENOUGH:
        return
    row = last_row(path)
    if not row:
        return
    try:
        kind = _kind(RunSpec.read(path))  # of the newest launch: another number of processes is another kind
        if kind not in seconds or len(seconds[kind]) >= _ENOUGH:
            return
        if gpus is None or (read_content(Provenance, path / PROVENANCE).device != "cpu") == gpus:
            seconds[kind].append(row["seconds"])
    except UserError:
        return  # skip a damaged record; the plan reports those of this grid


def _kind(spec: RunSpec) -> str:
    """A digest of what decides a run's step time: model without the method's settings, data, batch, processes."""
    model = _without_method(spec.config["model"])
    kind = [model, spec.config["data"], batch_size(spec.config["train"]), spec.processes]
    return digest(kind if spec.task == TRAIN else [*kind, spec.task])


def _without_method(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {key: _without_method(value) for key, value in node.items() if key != _METHOD}

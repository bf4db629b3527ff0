"""What a grid still costs: seconds an iteration, measured or declared, times what is left, in hours of one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import PROVENANCE, read_content
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.spec import EVALUATE, TRAIN, RunSpec, digest
from dynamic_rcnn.run.status import Attempt, Status
from experiments.config.grid import Grid
from experiments.config.overrides import load_base
from experiments.planning.manifest import manifest_path, read_cells
from experiments.planning.run_state import Directories, PlannedRun, last_row

if TYPE_CHECKING:
    from slurm.site_profile import Profile

_ENOUGH = 20  # measured runs of a model
COCO_TRAINED_ON = 117_266  # training images with at least one box: what an epoch goes over
_METHOD = "dynamic_rcnn"  # in the model: its switches and constants cost nothing


@dataclass(frozen=True)
class Speed:
    """Seconds an iteration of a run with all its processes, and where the figure comes from; None: not known."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Cost:
    """Hours of training, one run at a time; None where a run's speed or length is not known.

    launch: of the runs that a launch would start; going: of those in the queue or running. speeds: of each arm of which
    a run is not done. known: as launch, of those runs alone of which it is known; unknown: the arms of the others.
    """

    launch: float | None
    going: float | None
    speeds: dict[str, Speed]
    known: float = 0.0
    unknown: tuple[str, ...] = ()

    @property
    def figures(self) -> str:
        """The seconds an iteration and where they come from, in words."""
        known = dict.fromkeys(speed for speed in self.speeds.values() if speed.seconds is not None)
        return "; ".join(f"{speed.seconds:.3f} s an iteration ({speed.source})" for speed in known)


def estimate(grid: Grid, runs: Path, plan: Sequence[PlannedRun], gpus: bool | None = None) -> Cost:
    """What is left of `plan`. gpus: whether only speeds measured with (or without) GPUs count; None: any."""
    trained = [run for run in plan if run.spec.task != EVALUATE]
    left = list({run.spec.id: run for run in trained if run.state not in ("done", "stale")}.values())
    speeds = _speeds(grid, runs, left, gpus)
    to_launch = [run for run in left if run.to_launch]
    going = [run for run in left if run.state in ("queued", "running")]
    parts = {run.spec.id: _hours([run], speeds) for run in to_launch}
    unknown = dict.fromkeys(run.spec.arm for run in to_launch if parts[run.spec.id] is None)
    known = sum(hours for hours in parts.values() if hours is not None)
    return Cost(_hours(to_launch, speeds), _hours(going, speeds), speeds, known, tuple(unknown))


def refuse_above(grid: Grid, runs: Path, plan: Sequence[PlannedRun], profile: Profile) -> Cost:
    """The cost of `plan` with a profile. Raises UserError where that does not allow what is to be launched."""
    cost = estimate(grid, runs, plan, gpus=profile.gpus > 0)
    refuse(cost, plan, profile)
    return cost


def refuse(cost: Cost, plan: Sequence[PlannedRun], profile: Profile) -> None:
    """Raises UserError where the profile does not allow what is to be launched, or that cannot be said."""
    wanted = [run for run in plan if run.to_launch and run.spec.task != EVALUATE]
    if wanted:
        _refuse_hours(cost, profile)
        _refuse_time(cost, wanted, profile)


def spent_hours(plan: Iterable[PlannedRun]) -> tuple[float, int]:
    """Hours of all attempts so far, each times the processes of its run, and how many attempts those are."""
    runs = {run.path: run for run in plan}.values()
    spans = [(run.spec.processes, _span(attempt, run.status)) for run in runs for attempt in run.attempts]
    return sum(processes * seconds for processes, seconds in spans) / 3600, len(spans)


def lines(cost: Cost, plan: Sequence[PlannedRun], profile: Profile | None) -> list[str]:
    """The cost in words, a line each: of what is left, and on Slurm of what all attempts have taken so far."""
    if all(run.spec.task == EVALUATE for run in plan):
        return ["cost: nothing is trained; each image of the validation split is seen once"]
    if profile is None:
        return [_left(cost, 1, "slot-hours"), *_unknown(cost)]
    unit, each = ("GPU-hours", profile.gpus) if profile.gpus else ("node-hours", profile.nodes)
    said = [_left(cost, each, unit)]
    size = f"{profile.nodes} node{'s' if profile.nodes > 1 else ''}"
    size += f" x {profile.gpus_per_node} GPU{'s' if profile.gpus_per_node > 1 else ''}" if profile.gpus else ""
    said[0] += f", {size} a run, a time limit of {profile.time / 60:.1f} hours"
    said += _unknown(cost)
    if cost.going:
        said.append(f"queued and running: {cost.going * each:.2f} {unit}")
    hours, attempts = spent_hours(plan)
    if attempts:
        count = f"{attempts} attempt{'s' if attempts > 1 else ''}"
        said.append(f"spent: {hours:.2f} {'GPU-hours' if profile.gpus else 'process-hours'}, in {count}")
    return said


def _left(cost: Cost, each: int, unit: str) -> str:
    if cost.launch is None and not cost.known:
        return "cost: not known before the first run has measured it"
    return f"cost: {cost.known * each:.2f} {unit} left to launch" + (f", at {cost.figures}" if cost.figures else "")


def _unknown(cost: Cost) -> list[str]:
    """A line on the arms that are not in the figure."""
    arms = ", ".join(cost.unknown)
    return [f"and what takes {arms}: not known before a run has measured it"] if cost.known and arms else []


def _refuse_hours(cost: Cost, profile: Profile) -> None:
    limit = profile.max_gpu_hours
    if limit is None or not profile.gpus:
        return
    if cost.launch is None or cost.going is None:
        raise UserError(
            f"cluster.max_gpu_hours={limit}: the cost is not known before a run has measured it; "
            "give grid.cost.<data set>=SECONDS an iteration, or cluster.max_gpu_hours=null"
        )
    hours = (cost.launch + cost.going) * profile.gpus
    if hours > limit:
        raise UserError(
            f"cluster.max_gpu_hours={limit}: what is left takes {hours:.1f} GPU-hours, at {cost.figures}; "
            "choose fewer seeds= or arms=, or give a higher limit"
        )


def _refuse_time(cost: Cost, wanted: Sequence[PlannedRun], profile: Profile) -> None:
    """Each job has to come from one evaluation to the next, and to the warning, within its time limit."""
    for run in {run.spec.arm: run for run in wanted}.values():
        train, speed = run.spec.config["train"], cost.speeds[run.spec.arm]
        field = "val_interval" if train["val_interval"] else "checkpoint_interval"
        interval = min(train[field], _iterations(run) or train[field])
        seconds = interval * (speed.seconds or 0.0)
        if seconds + profile.warning_seconds > profile.time * 60:
            raise UserError(
                f"cluster.time={profile.time} minutes: cannot hold one evaluation interval of {run.spec.name}, "
                f"{seconds / 60:.1f} minutes (base.train.{field}={train[field]} at {speed.seconds:.3f} s an iteration, "
                f"{speed.source}), and cluster.warning_seconds={profile.warning_seconds}; give a longer time or a "
                "shorter interval"
            )


def _hours(runs: Sequence[PlannedRun], speeds: dict[str, Speed]) -> float | None:
    total = 0.0
    for run in runs:
        iterations, seconds = _iterations(run), speeds[run.spec.arm].seconds
        if iterations is None or seconds is None:
            return None
        total += max(0, iterations - run.iteration) * seconds
    return total / 3600


def _iterations(run: PlannedRun) -> int | None:
    """Of the whole run; of epochs before the first attempt it is known for COCO alone."""
    train = run.spec.config["train"]
    if run.iterations is None and run.spec.dataset["name"] == "coco":
        return int(train["max_epochs"] * -(-COCO_TRAINED_ON // train["batch_size"]))
    return run.iterations


def _speeds(grid: Grid, runs: Path, wanted: Sequence[PlannedRun], gpus: bool | None) -> dict[str, Speed]:
    """Arm -> the speed of its runs: measured by runs of the same model and processes, else declared."""
    kinds = {arm: _kind(spec) for arm, spec in {run.spec.arm: run.spec for run in wanted}.items()}
    found = _measured(grid, runs, set(kinds.values()), gpus) if kinds else {}
    missing = set(kinds.values()) - set(found)
    published = load_base(grid.base)["train"].get("processes", 1) if missing and not grid.timed_arms else 1
    return {
        arm: found.get(kind) or _declared(grid, arm, wanted[0].spec.processes, published) for arm, kind in kinds.items()
    }


def _declared(grid: Grid, arm: str, processes: int, published: int) -> Speed:
    """The grid's figure, which is for as many processes as the base is published with; one measures, in blocks."""
    seconds = grid.seconds.get(grid.dataset.split("_")[0])
    if isinstance(seconds, dict):
        seconds = seconds.get(arm)
    if seconds is None:
        return Speed(None, "not known")
    count = f"{published} process{'es' if published > 1 else ''}"
    if published == processes:
        return Speed(seconds, "declared in the grid" + (f" for {count}" if published > 1 else ""))
    return Speed(seconds * published / processes, f"declared in the grid as {seconds} s for {count}")


def _measured(grid: Grid, runs: Path, kinds: set[str], gpus: bool | None) -> dict[str, Speed]:
    """What runs of this grid, else of others in the run folder, took; for those of `kinds` that have been measured."""
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    arms = {arm: _kind(spec) for arm, spec in grid.specs.items()}
    own = {runs / cell.path: arms.get(cell.arm, "") for cell in read_cells(manifest_path(grid, runs))}
    for path, kind in own.items():
        _add(seconds, kind, path, gpus)
    if not all(seconds.values()):
        for path in Directories(runs, grid.dataset).all():
            if path not in own:
                _add(seconds, None, path, gpus)
    return {kind: _speed(values) for kind, values in seconds.items() if values}


def _speed(values: list[float]) -> Speed:
    return Speed(statistics.median(values), f"measured over {len(values)} run{'s' if len(values) > 1 else ''}")


def _add(seconds: dict[str, list[float]], kind: str | None, path: Path, gpus: bool | None) -> None:
    """Add what the run in `path` took, if it is wanted. kind: of the run, None where only its spec says it."""
    if kind is not None and len(seconds.get(kind, [None] * _ENOUGH)) >= _ENOUGH:
        return
    row = last_row(path)
    if not row:
        return
    try:
        kind = kind or _kind(RunSpec.read(path))
        if kind not in seconds or len(seconds[kind]) >= _ENOUGH:
            return
        if gpus is None or (read_content(Provenance, path / PROVENANCE).device != "cpu") == gpus:
            seconds[kind].append(row["seconds"])
    except UserError:
        return  # a damaged record measures nothing; where it is this grid's it is named


def _kind(spec: RunSpec) -> str:
    """What decides a run's speed: the model without the method's settings, the data, the batch and the processes."""
    model = _without_method(spec.config["model"])
    kind = [model, spec.config["data"], spec.config["train"]["batch_size"], spec.processes]
    return digest(kind if spec.task == TRAIN else [*kind, spec.task])


def _without_method(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_method(value) for key, value in node.items() if key != _METHOD}
    return node


def _span(attempt: Attempt, status: Status | None) -> float:
    """Seconds of an attempt; one that has not ended, or was killed, goes to the record's last sign of life."""
    end = attempt.ended or (status.heartbeat if status else None)
    return max(0.0, end - attempt.started) if end is not None else 0.0

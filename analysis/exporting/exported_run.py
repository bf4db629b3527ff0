"""What a run becomes in another tool: configuration, tags, and curves over the iteration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.reading.run import Run, origin_row
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.names import BOX_METRICS, MASK_METRICS
from dynamic_rcnn.run.files import EVALUATIONS, read_jsonl
from dynamic_rcnn.run.provenance import Origin
from dynamic_rcnn.run.results import EvaluationResults, PretrainingResults
from dynamic_rcnn.run.spec import canonical
from dynamic_rcnn.run.train_log import LATER_STAGES, LOSSES, PROPOSAL_IOUS, TIMING, stage_column

_STAGES = tuple(stage_column(name, stage) for stage in LATER_STAGES for name in ("T", "beta"))
GROUPS = {  # of the columns of train.jsonl
    "train": (*LOSSES, "lr"),
    "schedule": ("T", "beta", *_STAGES, "iou_statistic", "error_statistic"),
    "proposals": ("positives", *PROPOSAL_IOUS),
    "speed": TIMING,
}
VALIDATION, FINAL = "val", "final"  # groups of metrics in percent, during training and of metrics.json
_METRICS = {*BOX_METRICS, *MASK_METRICS}


class Point(NamedTuple):
    """Values by name at an iteration, at a time in seconds since the epoch. A time may be estimated."""

    iteration: int
    time: float
    values: dict[str, float]


class State(NamedTuple):
    """What a tracker has of a run: a number of points, and digests of them, of the configuration, of the tags."""

    points: int
    curves: str
    config: str
    tags: str


@dataclass(frozen=True)
class ExportedRun:
    """A run as trackers show it.

    Attributes:
        id: unique, and the same for all attempts of the run.
        name: <dataset>/<arm>/seed<k>-<id>.
        config: its spec.
        tags: what people filter by.
        points: in the order of iterations. Those of one iteration are in the order in which they were recorded.
        figures: what draws each as PNG. They are written once: their digests are in `config`.
    """

    id: str
    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    points: Sequence[Point] = field(default_factory=list)
    figures: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)

    @property
    def iteration(self) -> int:
        return self.points[-1].iteration if self.points else 0

    @property
    def is_over(self) -> bool:
        return self.tags.get("state") != "running"

    @cached_property
    def state(self) -> State:
        """The state of a tracker that has everything."""
        return State(len(self.points), self._digest(len(self.points)), _sha(self.config), _sha(self.tags))

    def continues(self, state: State) -> bool:
        """Whether a tracker in this state lacks nothing but later points and tags.

        It does not if the run was resumed from a checkpoint before its last point, and logged other values since.
        """
        return state.config == self.state.config and state.curves == self._digest(state.points)

    def _digest(self, count: int) -> str:
        return _sha([[point.iteration, point.values] for point in self.points[:count]])


def export_run(run: Run, grids: Sequence[str], run_dir: Path) -> ExportedRun:
    """Prepare a run that was started.

    Args:
        run: with a spec.
        grids: the names of the grids that contain it.
        run_dir: its directory.

    Raises:
        UserError: its evaluations cannot be read.
    """
    assert run.spec is not None
    attempts = run.status.attempts if run.status else []
    origin = origin_row(run.provenance or Origin())
    facts = {
        **{"run": run.spec.id, "path": run.path, "dataset": run.spec.dataset["name"]},
        **{"arm": run.spec.arm, "seed": run.spec.seed, "grids": ", ".join(dict.fromkeys(grids))},
        **{"setting": run.spec.setting, "state": run.state, "cause": run.cause, "attempts": len(attempts)},
        **{name: origin[name] for name in ("commit", "code", "device", "torch")},
    }
    started = attempts[0].started if attempts else 0.0
    points = sorted(_points(run, run_dir, started), key=lambda point: point.iteration)
    tags = {name: "" if value is None else str(value) for name, value in facts.items()}
    return ExportedRun(run.spec.id, run.path, asdict(run.spec), tags, points)


def _points(run: Run, run_dir: Path, started: float) -> Iterator[Point]:
    """The points of training, of evaluations during training, and of the results."""
    columns = run.log.columns
    iterations = columns["iteration"]
    seconds = np.nan_to_num(columns["seconds"]) * np.diff(iterations, prepend=0)
    times = started + np.cumsum(seconds)
    names = [(f"{group}/{name}", columns[name]) for group, own in GROUPS.items() for name in own]
    for row, iteration in enumerate(iterations):
        values = {name: float(column[row]) for name, column in names if isfinite(column[row])}
        yield Point(int(iteration), float(times[row]), values)

    def time_at(iteration: int) -> float:
        return float(np.interp(iteration, iterations, times)) if len(times) else started

    for metrics in _evaluations(run_dir):
        at = metrics["iteration"]
        yield Point(at, time_at(at), _percent(VALIDATION, metrics))
    results = run.results
    if isinstance(results, EvaluationResults):
        yield Point(results.iteration, time_at(results.iteration), _percent(FINAL, results.metrics))
    elif isinstance(results, PretrainingResults):
        yield Point(results.iteration, time_at(results.iteration), {f"{FINAL}/accuracy": 100 * results.accuracy})


def _evaluations(run_dir: Path) -> list[dict[str, Any]]:
    rows = read_jsonl(run_dir / EVALUATIONS)
    if any(not isinstance(row, dict) or not isinstance(row.get("iteration"), int) for row in rows):
        raise UserError(f"{run_dir / EVALUATIONS}: a line has no integer field 'iteration'")
    return rows


def _percent(group: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row that are known, in percent as in the report."""
    numbers = {name: value for name, value in metrics.items() if name in _METRICS and isinstance(value, int | float)}
    return {f"{group}/{name}": 100 * value for name, value in numbers.items()}


def _sha(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()

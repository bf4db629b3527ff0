"""The state of each run of a grid, from its record on disk. Reads a file once and changes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import METRICS, PROVENANCE, SPEC, STATUS, TRAIN_LOG, read_content
from dynamic_rcnn.run.fingerprint import code_fingerprint
from dynamic_rcnn.run.provenance import Provenance
from dynamic_rcnn.run.reuse import find_training, read_trained
from dynamic_rcnn.run.spec import EVALUATE, TRAIN, RunSpec
from dynamic_rcnn.run.state import CORRUPT, State, read_state
from dynamic_rcnn.run.status import Attempt, Status
from experiments.config.grid import Grid
from experiments.planning.directories import Directories, names_in, nearest_differences
from experiments.planning.replays import replay_fault

FINAL = ("done", "stale")
HELD = "held until `scontrol release"  # in the reason of a job that starts only after this command
STALE_HEARTBEAT_S = 30 * 60.0  # age of a running run's record from which it counts as making no progress


@dataclass(frozen=True)
class PlannedRun:
    """A run of a grid in its current state.

    Attributes:
        state: new, queued, running, failed, done or stale.
        why: the reason for the state, as text.
        cause, message: of a failure, as recorded. The cause is CORRUPT if the directory must not be overwritten.
        job, node: of its job in Slurm's queue (in_queue), or else of its newest attempt.
        status, metrics: the contents of its record.
        training: the directory whose complete training it reuses, because only validation annotations changed.
    """

    spec: RunSpec
    path: Path
    state: str
    why: str
    iteration: int
    iterations: int | None
    cause: str | None = None
    message: str | None = None
    job: str | None = None
    node: str | None = None
    in_queue: bool = False
    status: Status | None = field(default=None, repr=False)
    metrics: dict[str, float | None] = field(default_factory=dict, repr=False)
    training: Path | None = None

    @property
    def line(self) -> str:
        """Its name, its state, and why it is in this state."""
        return f"{self.spec.name}: {self.state}{': ' + self.why if self.why else ''}"

    @property
    def corrupt(self) -> bool:
        return self.cause == CORRUPT

    @property
    def to_launch(self) -> bool:
        """Whether a launch starts it. A directory with another or a corrupt record is never overwritten."""
        return self.state in ("new", "failed") and not self.corrupt

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts in its record, oldest first."""
        return self.status.attempts if self.status else []

    @property
    def last_attempt(self) -> Attempt | None:
        """The newest attempt in its record."""
        return self.attempts[-1] if self.attempts else None


def disk_plan(grid: Grid, runs: Path) -> list[PlannedRun]:
    """Every run of the grid as on disk, the pretrainings first. Arms with the same id share a directory."""
    directories = Directories(runs, grid.dataset)
    found: dict[str, PlannedRun] = {}
    reused: dict[str, str] = {}  # id of a run that reuses a training -> id of the run that trained
    for spec in grid.all_runs:
        if spec.id not in found:
            path = directories.find(spec)
            run = _read_run(spec, path)
            found[spec.id] = _new_run(run, directories, reused) if run.state == "new" else run
            _note_training(found[spec.id], reused)
    return _check_replays([_note_shared(replace(found[spec.id], spec=spec)) for spec in grid.all_runs])


def read_again(plan: Sequence[PlannedRun], ids: Container[str]) -> list[PlannedRun]:
    """`plan` with the runs with these ids, which have ended, read from disk again."""
    ended = [_note_shared(_read_run(run.spec, run.path)) if run.spec.id in ids else run for run in plan]
    return note_failed_needs(_check_replays(ended))


def _note_shared(run: PlannedRun) -> PlannedRun:
    """`run`, with a note if its directory has another arm's name."""
    arm = run.path.parent.name
    if run.state not in ("new", "done") or arm == run.spec.arm:
        return run
    same = f"the same run as {arm}/seed{run.spec.seed}"
    return replace(run, why=f"{same}; {run.why}" if run.state == "done" and run.why else same)


def _check_replays(plan: list[PlannedRun]) -> list[PlannedRun]:
    return [_check_replay(run, plan) for run in plan]


def _check_replay(run: PlannedRun, plan: Sequence[PlannedRun]) -> PlannedRun:
    """`run`, marked as stale if the run that it replays or evaluates is, or has trained with other T or beta since."""
    needed = run.spec.source
    if needed is None or run.state != "done":
        return run
    source = next((other for other in plan if other.spec.id == needed["run"]), None)
    if source is None or source.state not in FINAL:
        return run
    replay = run.spec.replay
    if source.state == "stale":
        why = "is stale"
    elif fault := replay_fault(run.path, source.path, replay.get("values")) if replay else None:
        why = fault
    else:
        return run
    verb = "replays" if replay else "evaluates"
    return replace(run, state="stale", why=f"{verb} {source.spec.name}, which {why}; rerun=stale runs it again")


def note_failed_needs(plan: list[PlannedRun]) -> list[PlannedRun]:
    """`plan` with a note on runs that cannot start because a run that they need failed."""
    failed = {run.spec.id: run.spec.name for run in plan if run.state == "failed"}
    noted = []
    for run in plan:
        waits = f"waits for {', '.join(failed[name] for name in run.spec.needs if name in failed)}, which is not done"
        if run.state in ("new", "failed") and failed.keys() & set(run.spec.needs) and not run.why.endswith(waits):
            run = replace(run, why=waits if run.state == "new" else f"{run.why}; {waits}")
        noted.append(run)
    return noted


def _read_run(spec: RunSpec, path: Path) -> PlannedRun:
    """The run of `spec` as the record in `path` has it."""
    state = _read_state_of(spec, path)
    name, why = state.name, ""
    if name == "absent":
        name = "new"
    elif name == "failed":
        why = f"{state.cause}: {state.message}" if state.message else str(state.cause)
    elif name == "running":
        why = stale_heartbeat_note(state.status)
    elif name == "done":
        why = _why_stale(path)
        name, why = ("stale", why) if why else ("done", _incomplete_note(spec, path, state.status))
    total = state.max_iterations or (None if spec.task == EVALUATE else spec.config["train"]["max_iters"])
    run = PlannedRun(spec, path, name, why, state.iteration, total, state.cause, state.message)
    run = replace(run, status=state.status, metrics=state.metrics)
    last = run.last_attempt
    if last is None:
        return run
    return replace(run, job=last.job or None, node=(last.nodes if last.job else last.host) or None)


def stale_heartbeat_note(status: Status | None) -> str:
    """A note on a running run whose record has not changed for long; "" if it has changed."""
    seconds = time.time() - status.heartbeat if status and status.heartbeat is not None else 0.0
    return f"no progress for {seconds / 60:.0f} minutes" if seconds > STALE_HEARTBEAT_S else ""


def _incomplete_note(spec: RunSpec, path: Path, status: Status | None) -> str:
    """A note on what the record of a done run lacks; "" if it is complete."""
    log = path / TRAIN_LOG
    lacks = [] if status else [f"{STATUS} is {'not readable' if (path / STATUS).exists() else 'missing'}"]
    if spec.task == TRAIN and not (log.is_file() and log.stat().st_size):
        lacks.append(f"{TRAIN_LOG} is {'empty' if log.exists() else 'missing'}")
    return f"{METRICS} exists, but {' and '.join(lacks)}" if lacks else ""


def _read_state_of(spec: RunSpec, path: Path) -> State:
    """The state of the run in `path`; its cause is CORRUPT if the directory contains another run."""
    state = read_state(path)
    if state.cause == CORRUPT or not path.exists():
        return state
    try:
        if state.name == "absent" and not (path / SPEC).exists():
            return state
        recorded = RunSpec.read(path)
    except UserError as error:
        return State("failed", CORRUPT, f"{error}; move the run's directory away and launch again")
    if replace(recorded, arm=spec.arm) == spec or recorded.id == spec.id:
        return state
    message = f"{path}: its spec.json is of another run ({recorded.id}); move the run's directory away and launch again"
    return State("failed", CORRUPT, message)


def _why_stale(path: Path) -> str:
    try:
        made_by = str(read_content(Provenance, path / PROVENANCE).code)
    except UserError as error:
        return f"the code that made it is unknown: {error}"
    now = code_now()
    return "" if made_by == now else f"made by different code ({made_by}, now {now}); rerun=stale runs it again"


@cache
def code_now() -> str:
    """The fingerprint of the current code. Computed once, because a launch needs it every second."""
    return code_fingerprint()


def _new_run(run: PlannedRun, directories: Directories, reused: dict[str, str]) -> PlannedRun:
    """A new run, with a note on how it differs from another run, or with the training that it reuses."""
    others = () if run.path.exists() else directories.others(run.spec, run.path)
    training = find_training(run.spec, others, reused)
    if training is None:
        return replace(run, why=_why_new(run.spec, run.path, directories))
    why = f"the validation annotations changed since {training.name}: only the evaluation is repeated"
    return replace(run, why=why, training=training, iteration=run.iterations or 0)


def _note_training(run: PlannedRun, reused: dict[str, str]) -> None:
    """Add the run to `reused` if it reuses a training, or has done so."""
    with contextlib.suppress(UserError):
        trained = read_trained(run.path)
        if run.training is not None:
            reused[run.spec.id] = RunSpec.read(run.training).id
        elif trained is not None:
            reused[run.spec.id] = trained.run


def _why_new(spec: RunSpec, path: Path, directories: Directories) -> str:
    """The fields in which `spec` differs from the most similar run of the same arm and seed on disk."""
    changed = nearest_differences(spec, path, directories)
    if changed is None:
        return ""
    other, fields = changed
    shown = "; ".join(f"{field}: {old} -> {new}" for field, old, new in fields[:3])
    more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
    return f"differs from {other.name} in {shown}{more}"


def lost_copies(plan: Sequence[PlannedRun]) -> str | None:
    """A line about directories of lost copies (see `dynamic_rcnn.run.claim`) beside the runs; None without any."""
    names = {run.path.name for run in plan}
    folders = {run.path.parent for run in plan}
    lost = [name for folder in folders for name in names_in(folder) if ".lost" in name and name.split(".")[0] in names]
    if not lost:
        return None
    return f"directories of lost copies (.lost1 and so on): {len(lost)}; delete them when no job writes into them"

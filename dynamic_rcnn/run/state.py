"""The state of a run, from the files of its directory.

A run is done if and only if its `metrics.json` exists and is valid, whatever the other files contain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import METRICS, SPEC, STATUS, TRAIN_LOG, read_content
from dynamic_rcnn.run.lock import is_locked
from dynamic_rcnn.run.results import Results, read_results
from dynamic_rcnn.run.status import Status

CORRUPT = "corrupt record"  # the cause of a run whose directory must not be overwritten


@dataclass(frozen=True)
class State:
    """The state of a run.

    name: absent, running, done or failed; the plan decides which done runs are stale.
    cause: of a failure, as the trainer wrote it; "killed" if the process died without writing its status; CORRUPT.
    status: the content of status.json; None if it is missing or corrupt.
    results: the content of metrics.json; None if it is missing or corrupt.
    """

    name: str
    cause: str | None = None
    message: str | None = None
    status: Status | None = field(default=None, compare=False)
    results: Results | None = field(default=None, compare=False)

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of a run that is done; {} for one that times its arms."""
        return {**self.results.metrics} if self.results else {}

    @property
    def iteration(self) -> int:
        return self.status.iteration if self.status else 0

    @property
    def max_iterations(self) -> int:
        return self.status.max_iterations if self.status else 0


def read_state(run_dir: Path) -> State:
    """Read the state of the run in `run_dir`. Changes nothing."""
    if not (run_dir / SPEC).exists():
        records = [name for name in (STATUS, TRAIN_LOG, METRICS) if (run_dir / name).exists()]
        if not records:
            return State("absent")
        way_out = "move the run's directory away and launch again"
        return State("failed", CORRUPT, f"{run_dir / SPEC}: is missing, but there is {', '.join(records)}; {way_out}")
    running = is_locked(run_dir)  # first: a run that ends meanwhile writes its status before it releases the lock
    status, fault = None, None
    try:
        status = read_content(Status, run_dir / STATUS)
    except UserError as error:
        fault = str(error)
    if (run_dir / METRICS).exists():
        try:
            return State("done", status=status, results=read_results(run_dir))
        except UserError as error:
            return State("failed", CORRUPT, str(error), status)
    if running:
        return State("running", status=status)
    if not (run_dir / STATUS).exists():
        return State("absent")
    if status is None:
        return State("failed", CORRUPT, f"{fault}; delete it and launch again: the run resumes from its checkpoints")
    if status.state == "failed":
        return State("failed", str(status.cause), status.message, status)
    if status.state == "done":
        why = f"{METRICS} is missing although {STATUS} says that the run is done; launching again writes it again"
        return State("failed", "no results", why, status)
    return State("failed", "killed", "the process died without writing its status; relaunching resumes the run", status)

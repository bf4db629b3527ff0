"""How an attempt that did not finish ended: from an exception or a loss to the recorded cause and the exit code.

Imports no torch: an attempt may end before torch is imported.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dynamic_rcnn.errors import (
    InterruptedRunError,
    LostProcessError,
    NaNLossError,
    NoPositivesError,
    PreflightError,
    UserError,
)
from dynamic_rcnn.parallel.processes import EXIT_CODES
from dynamic_rcnn.parallel.rank import EXIT_LOCKED, EXIT_LOST, Rank, write_failure
from dynamic_rcnn.run.status import StatusFile, SupersededError

if TYPE_CHECKING:
    from torch import Tensor

EXIT_FAILED = 1
LOST = "lost"  # another process of the run died for a reason that this one does not know; not recorded
SUPERSEDED = "superseded"
_OF_ALL_RANKS = ("NaN", "no positives", "interrupted")
_DEVICE_PATIENCE_S = 5.0
_NOT_DETERMINISTIC = re.compile(r"(.+?) does not have a deterministic implementation")  # torch's words


@dataclass(frozen=True)
class End:
    """How a process ended that did not finish."""

    cause: str  # an outcome of status.json, LOST or SUPERSEDED
    message: str  # one line
    rank: int = 0
    iteration: int = 0  # of a loss that is not finite
    node: str | None = None  # at fault in a preflight

    @property
    def exit_code(self) -> int:
        codes = {SUPERSEDED: EXIT_LOCKED, LOST: EXIT_LOST, **EXIT_CODES}
        return codes.get(self.cause, EXIT_FAILED)


class UncheckedLosses:
    """The scalar losses of the iterations since the last check, which makes the host wait for the device."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, Tensor]] = []

    def add(self, iteration: int, loss: Tensor) -> None:
        self._losses.append((iteration, loss.detach()))

    def first_bad(self) -> int | None:
        """The smallest iteration with a loss that is not finite, or None. Forgets all losses; waits for the device."""
        losses, self._losses = self._losses, []
        if not losses:
            return None
        import torch

        finite = torch.isfinite(torch.stack([loss for _, loss in losses])).tolist()
        return min((iteration for (iteration, _), good in zip(losses, finite, strict=True) if not good), default=None)


def raise_if_bad(iteration: int | None) -> None:
    """Raise NaNLossError for the result of `first_bad`."""
    if iteration is not None:
        raise NaNLossError(f"the loss is not finite at iteration {iteration}")


def classify(error: Exception, me: Rank, losses: UncheckedLosses, stopped: bool = False) -> End:
    """The end that `error` stands for; prints the traceback if the cause is not known.

    An operator that fails on NaN is not the cause: `losses` tell. stopped: a signal asked this process to stop.
    """
    if isinstance(error, NaNLossError):
        return End("NaN", str(error), me.number)
    bad = _first_bad(losses)
    if bad is not None:
        return End("NaN", f"the loss is not finite at iteration {bad}", me.number, bad)
    if stopped and _is_loss_of_another(error, me):
        return End("interrupted", "stopped by a signal that ended other processes of the run first", me.number)
    return End(*_cause(error, me), me.number, node=error.node if isinstance(error, PreflightError) else None)


def conclude(end: End, me: Rank, record: StatusFile) -> int:
    """Agree with the other processes on the cause, print and record it. Returns the exit code."""
    if me.number > 0 and end.cause not in (LOST, SUPERSEDED, "interrupted"):
        write_failure(me, end.cause, end.message)
    if me.size > 1:
        end = _agree(end)
    where = f"rank {end.rank}: " if end.rank > 0 and end.cause not in _OF_ALL_RANKS else ""
    print(f"{end.cause}: {where}{end.message}", file=sys.stderr, flush=True)
    if me.number == 0 and end.cause not in (LOST, SUPERSEDED):
        try:
            if not record.started:  # it failed before the iteration to resume from was known
                record.start(record.iteration)
            record.blame(end.node)
            record.end(end.cause, where + end.message)
        except (OSError, SupersededError) as error:
            print(f"the status could not be written: {error}", file=sys.stderr)
    return end.exit_code


def _first_bad(losses: UncheckedLosses) -> int | None:
    """Like `losses.first_bad()`; None if the device does not answer soon: it failed, or waits for a lost process."""
    found: list[int | None] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            found.append(losses.first_bad())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_DEVICE_PATIENCE_S)
    return found[0] if found else None


def _cause(error: Exception, me: Rank) -> tuple[str, str]:
    """(cause, message) of an error."""
    known = {
        InterruptedRunError: "interrupted",
        SupersededError: SUPERSEDED,
        UserError: "bad input",
        NoPositivesError: "no positives",
        LostProcessError: "error",
        PreflightError: "preflight failed",
    }
    for kind, cause in known.items():
        if isinstance(error, kind):
            return cause, str(error)
    if refused := _NOT_DETERMINISTIC.match(str(error)):
        why = f"the operator {refused[1]} has no deterministic form on this device"
        return "bad input", f"base.train.deterministic=true: {why}; set it to false, or train a model without it"
    line = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return "disk", f"{line}; free some space or choose another runs="
    if _is_loss_of_another(error, me):
        return LOST, f"another process of this run died ({line.split(' This is')[0]})"
    traceback.print_exc()
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return ("out of memory" if memory or "can't allocate memory" in line else "error"), line


def _is_loss_of_another(error: Exception, me: Rank) -> bool:
    if me.size == 1:
        return False
    from dynamic_rcnn.parallel import comm as distributed

    return distributed.is_loss_of_another(error)


def _agree(mine: End) -> End:
    """Of the ends that the processes exchanged, the one that caused the others."""
    from dynamic_rcnn.parallel import comm as distributed

    order = {SUPERSEDED: 0, "NaN": 1, "interrupted": 3, LOST: 4}  # 2: all other causes
    ends = [End(**each) for each in distributed.exchange_ends(asdict(mine))]
    return min(ends, key=lambda end: (order.get(end.cause, 2), end.iteration, end.rank))

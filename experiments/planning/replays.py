"""Whether a finished run replayed the T and beta that the run it replays has now."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from dynamic_rcnn.run.files import TRAIN_LOG, parse_row
from dynamic_rcnn.run.replay import Logged, is_replay


def replay_fault(run: Path, source: Path, values: str | None) -> str | None:
    """What the run in directory `source` did other than `run`, which replays its `values`; None if nothing."""
    trained, theirs = _logged(run / TRAIN_LOG), _logged(source / TRAIN_LOG)
    if not trained and not theirs:
        return None
    if not trained or not theirs:
        return f"cannot be compared, because train.jsonl of {(source if trained else run).name} has no T and beta"
    if is_replay(trained, theirs, values):
        return None
    return f"trained with other T and beta and ended with {list(theirs[max(theirs)])}"


def _logged(log: Path) -> Logged:
    """T and beta by iteration, without lines that are not valid. A log that has not changed is read once."""
    try:
        now = log.stat()
    except OSError:
        return {}
    return _read(log, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=1024)
def _read(log: Path, _modified: int, _size: int) -> Logged:
    found = {}
    for row in map(parse_row, log.read_text("utf-8", errors="replace").splitlines()):
        iteration, threshold, beta = (row.get(name) for name in ("iteration", "T", "beta"))
        if isinstance(iteration, int) and isinstance(threshold, int | float) and isinstance(beta, int | float):
            found[iteration] = (threshold, beta)
    return found

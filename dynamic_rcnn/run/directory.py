"""The run directory: names of its files, reading and writing them, the lock, and the state they add up to.

    runs/<dataset>/<arm>/seed<k>-<id>/
        spec.json  status.json  provenance.json  train.jsonl  detections.json.gz  metrics.json  logs/  checkpoints/

Everything on disk is complete or absent: a file is written under a temporary name, synced and renamed.
A run is done if and only if its `metrics.json` is there and valid, whatever else the directory says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.json_text import parse

SCHEMA = 1

BENCHMARK = "benchmark"  # the task of a run that times its arms; for its metrics.json see run.timing_results

SPEC = "spec.json"
STATUS = "status.json"
PROVENANCE = "provenance.json"
TRAIN_LOG = "train.jsonl"
EVALUATIONS = "evaluations.jsonl"
DETECTIONS = "detections.json.gz"
METRICS = "metrics.json"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
WEIGHTS = "checkpoints/weights.pth"
LOCK = "lock"
RENDEZVOUS = "rendezvous.json"
GRID_SUFFIX = ".grid.json"

LOCK_PATIENCE_S = 2.0
CORRUPT = "corrupt record"  # the cause of a run whose directory nobody should write over


_WAY_OUT = "move the run's directory away and launch again"


class RunLockedError(UserError):
    """Another process is training this run."""


@dataclass(frozen=True)
class State:
    """Where a run stands: `name` is absent, running, done or failed (stale is decided by the plan).

    cause: of a failure, as the trainer wrote it; "killed" where the process is gone without a word; CORRUPT.
    status, metrics: what status.json holds and the field `metrics` of metrics.json; {} where missing or corrupt.
    """

    name: str
    cause: str | None = None
    message: str | None = None
    iteration: int = 0
    max_iterations: int = 0
    status: dict[str, Any] = field(default_factory=dict, compare=False)
    metrics: dict[str, Any] = field(default_factory=dict, compare=False)


def write_json_atomic(path: Path, value: Any) -> None:
    """Write `value` as JSON under a temporary name, sync it, and rename it to `path`."""
    write_bytes_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write `content` under a temporary name, sync it, and rename it to `path`. Raises OSError on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in `folder`. Only the process that holds the run's lock may call it."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """Read one of the JSON files above. Raises UserError if it is missing, corrupt, foreign or of a newer schema."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error.__class__.__name__}: {error})") from None
    try:
        value = parse(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise UserError(f"{path}: no file of this suite (it has no integer field 'schema')")
    if value["schema"] > SCHEMA:
        raise UserError(f"{path}: schema {value['schema']} is newer than {SCHEMA}, which this version reads; update it")
    return value


def read_text(path: Path) -> str:
    """Of a file in UTF-8. Raises UserError for a pipe, which would wait for a writer; else as Path.read_text."""
    if path.is_fifo():
        raise UserError(f"{path}: a pipe, not a file; move it away")
    return path.read_text(encoding="utf-8")


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """The run's metrics. Raises UserError if they are missing or not valid."""
    path = run_dir / METRICS
    value = read_json(path)
    if value.get("task") == BENCHMARK and value.get("metrics") == {}:
        return value
    again = f"move it away, and `python -m dynamic_rcnn.evaluate {run_dir}` writes it again"
    metrics = value.get("metrics")
    if not isinstance(metrics, dict) or "AP" not in metrics or "AP90" not in metrics:
        raise UserError(f"{path}: field 'metrics' must hold AP and AP90; {again}")
    for name, number in metrics.items():
        if number is not None and not (_is_number(number) and math.isfinite(number)):
            raise UserError(f"{path}: metric {name} is {number!r}; it must be a finite number or null; {again}")
    return value


def read_state(run_dir: Path) -> State:
    """The state of the run in `run_dir`, from disk alone; changes nothing."""
    if not (run_dir / SPEC).exists():
        return _without_spec(run_dir)
    running = is_locked(run_dir)  # first: a run that ends while we look has written its end before it lets go
    try:
        status, fault = _read_status(run_dir / STATUS), None
    except UserError as error:
        status, fault = {}, str(error)
    record: dict[str, Any] = {
        "iteration": status.get("iteration", 0),
        "max_iterations": status.get("max_iterations", 0),
        "status": status,
    }
    if (run_dir / METRICS).exists():
        try:
            return State("done", **record, metrics=read_metrics(run_dir)["metrics"])
        except UserError as error:
            return State("failed", CORRUPT, str(error), **record)
    if running:
        return State("running", **record)
    if not (run_dir / STATUS).exists():
        return State("absent")
    if fault is not None:
        return State("failed", CORRUPT, f"{fault}; delete it and launch again: the run goes on from its checkpoints")
    if status.get("state") == "failed":
        return State("failed", str(status.get("cause")), status.get("message"), **record)
    return State("failed", "killed", "its process is gone without a word; a relaunch resumes it", **record)


def _without_spec(run_dir: Path) -> State:
    records = [name for name in (STATUS, TRAIN_LOG, METRICS) if (run_dir / name).exists()]
    if not records:
        return State("absent")
    return State("failed", CORRUPT, f"{run_dir / SPEC}: missing beside {', '.join(records)}; {_WAY_OUT}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_status(path: Path) -> dict[str, Any]:
    status = read_json(path)
    for key in ("iteration", "max_iterations"):
        if not isinstance(status.get(key), int):
            raise UserError(f"{path}: field {key!r} is {status.get(key)!r}; it must be an integer")
    return status


def is_locked(run_dir: Path) -> bool:
    """Whether a process is training the run now."""
    try:
        file = (run_dir / LOCK).open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(run_dir: Path, patience_s: float = LOCK_PATIENCE_S) -> Iterator[None]:
    """Hold a folder's lock; the kernel frees it however the process ends. Raises RunLockedError if it is held."""
    with (run_dir / LOCK).open("ab", buffering=0) as file:
        if not take_lock(file, patience_s):
            raise RunLockedError(f"{run_dir}: another process is training this run")
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            file.truncate(0)
            file.write(f"{socket.gethostname()} {os.getpid()}\n".encode())
        yield


def take_lock(file: IO[bytes], patience_s: float) -> bool:
    """Take the lock of an open file. Returns False if somebody else holds it for longer than that.

    A reader of the state holds it for an instant.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)


def lock_holder(run_dir: Path) -> tuple[str, int] | None:
    """(host, process id) that holds the lock now; None if nobody does, or nothing is known of the holder."""
    if not is_locked(run_dir):
        return None
    words = (run_dir / LOCK).read_text(errors="replace").split()
    return (words[0], int(words[1])) if len(words) >= 2 and words[1].isdigit() else None


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one line and flush it; a torn last line is dropped by `read_jsonl`."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; [] if it is missing. A torn last line (a killed writer) is left out."""
    if not path.exists():
        return []
    rows = []
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # no newline behind it
                break
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{path}: line {number} is not valid JSON ({reason})") from None
    return rows


def truncate_jsonl(path: Path, iteration: int) -> None:
    """Keep only rows up to `iteration`: what an interrupted attempt logged beyond its last checkpoint comes again."""
    rows = [row for row in read_jsonl(path) if row["iteration"] <= iteration]
    if path.exists():
        write_bytes_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

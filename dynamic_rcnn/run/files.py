"""The files of a run directory: their names, and how they are written and read.

    runs/<dataset>/<arm>/seed<k>-<id>/
        spec.json  status.json  provenance.json  train.jsonl  detections.json.gz  metrics.json  logs/  checkpoints/

A file is complete or absent: it is written under a temporary name, synced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, Field

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import Schema, validate

SCHEMA = 1  # version of the file formats

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
TRAINED = "trained.json"
BOX_GRADIENTS = "box_gradients.json"
LOCK = "lock"
RENDEZVOUS = "rendezvous.json"
GRID_SUFFIX = ".grid.json"

_MAX_DIGITS = 19  # of an integer that fits into 64 bits
_WEIGHTS_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
_LOG_NAME = re.compile(r"attempt(\d+)(?:\.rank(\d+))?\.log")


def log_name(attempt: int, rank: int = 0) -> str:
    """The path of what a process of an attempt prints, relative to the run directory."""
    return f"{LOGS}/attempt{attempt}.log" if rank == 0 else f"{LOGS}/attempt{attempt}.rank{rank}.log"


def find_logs(run_dir: Path) -> dict[tuple[int, int], Path]:
    """The log files of a run by (attempt, rank)."""
    found = ((_LOG_NAME.fullmatch(path.name), path) for path in (run_dir / LOGS).glob("attempt*.log"))
    return {(int(match[1]), int(match[2] or 0)): path for match, path in found if match}


class Part(Schema):
    """Base class of what a file contains. Ignores unknown fields: a later version may have written them."""

    model_config = ConfigDict(extra="ignore")


class FileContent(Part):
    """Base class of a whole file."""

    schema_version: int = Field(default=SCHEMA, validation_alias="schema", serialization_alias="schema")


Content = TypeVar("Content", bound=FileContent)


def read_content(kind: type[Content], path: Path, way_out: str = "") -> Content:
    """Read a JSON file of the given kind. Raises UserError as `read_json`, or if the content does not match.

    way_out: what the user can do about content that does not match, added to the message.
    """
    return validate(kind, read_json(path), way_out=way_out, file=path)


def write_content(path: Path, content: FileContent) -> None:
    """Write the content of a file as JSON, atomically."""
    write_json_atomic(path, content.model_dump(by_alias=True))


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


def free_name(path: Path, suffix: str) -> Path:
    """The first of `<path>.<suffix>1`, `<path>.<suffix>2` ... that does not exist, to move `path` aside."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{suffix}{number}")).exists():
        number += 1
    return aside


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in `folder`. Only the process that holds the run's lock may call it."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """The suite's folder in the user's cache. Raises RuntimeError if the user has no home."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "dynamic_rcnn_suite"


def read_json(path: Path, way_out: str = "") -> dict[str, Any]:
    """Read a JSON file. Raises UserError if it is missing, corrupt, not of this suite, or of a newer schema.

    way_out: what the user can do if it is corrupt.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error.__class__.__name__}: {error})") from None
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}){way_out and f'; {way_out}'}") from None
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise UserError(f"{path}: not a file of this suite (it has no integer field 'schema')")
    if value["schema"] > SCHEMA:
        newer = f"schema {value['schema']} is newer than {SCHEMA}, which this version reads"
        raise UserError(f"{path}: {newer}; update the suite")
    return value


def read_text(path: Path) -> str:
    """Read a UTF-8 file. Raises UserError for a pipe, which would block. Otherwise like Path.read_text."""
    if path.is_fifo():
        raise UserError(f"{path}: a pipe, not a file; move it away")
    return path.read_text(encoding="utf-8")


def parse_json(text: str) -> Any:
    """Parse JSON. Raises ValueError also for deep nesting, integers of over 64 bits and an unpaired surrogate."""
    try:
        value = json.loads(text, parse_int=_parse_integer)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("an unpaired surrogate in a string") from None
    return value


def _parse_integer(digits: str) -> int:
    count = len(digits.lstrip("-"))
    if count > _MAX_DIGITS or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"an integer of {count} digits")
    return int(digits)


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's content."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def named_digest(path: Path) -> str | None:
    """The first 8 hex digits of the sha256 in the name of a weights file (OpenMMLab: name-62a3f276.pth), or None."""
    found = _WEIGHTS_NAME.search(path.name)
    return found[1] if found else None


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one line and flush it. `read_jsonl` drops a torn last line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def parse_row(line: str) -> dict[str, Any]:
    """A line of a JSON-lines file; {} if it is torn or no object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; [] if it is missing. Raises UserError for a line that is not valid JSON.

    A torn last line is dropped: the writer was killed.
    """
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
            if number == len(lines):  # the last line is not complete
                break
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{path}: line {number} is not valid JSON ({reason})") from None
    return rows


def truncate_jsonl(path: Path, iteration: int) -> None:
    """Drop the rows beyond `iteration`: a resumed run logs them again after its last checkpoint."""
    rows = [row for row in read_jsonl(path) if row["iteration"] <= iteration]
    if path.exists():
        write_bytes_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())

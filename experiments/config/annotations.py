"""A cache of what a plan reads from annotation files: COCO's have 470 MB, and every plan would hash them again.

It lies in the user's cache folder; its keys are the path, size and modification time of both files. A run hashes the
files itself when it starts.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.run.files import cache_folder, write_bytes_atomic

_KEPT = 20
_SETTLED_S = 5.0  # a file that has just changed may change again with the same time stamp


def coco_format_dataset(root: Path, paths: dict[str, str]) -> dict[str, Any]:
    """Like dynamic_rcnn.data.dataset.coco_format_dataset, but reads unchanged files only once."""
    key = _key(root / paths["train_ann"], root / paths["val_ann"])
    known = _read() if key is not None else {}
    if key in known:
        return {"root": str(root), **known[key], **paths}
    found = datasets.coco_format_dataset(root, paths)
    if key is not None and key == _key(root / paths["train_ann"], root / paths["val_ann"]):
        _write({**known, key: {name: found[name] for name in ("fingerprint", "classes")}})
    return found


def _key(*files: Path) -> str | None:
    """The cache key of the files; None if one is missing, or too new for its time stamp to identify its content."""
    try:
        stats = [(str(file.resolve()), file.stat()) for file in files]
    except OSError:
        return None
    if any(time.time() - stat.st_mtime < _SETTLED_S for _, stat in stats):
        return None
    return " ".join(f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}" for path, stat in stats)


def _cache_file() -> Path:
    return cache_folder() / "annotations.json"


def _read() -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(_cache_file().read_text("utf-8"))
        return {
            key: {"fingerprint": str(one["fingerprint"]), "classes": list(one["classes"])} for key, one in known.items()
        }
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError):
        return {}  # it is computed again


def _write(known: dict[str, dict[str, Any]]) -> None:
    newest = dict(list(known.items())[-_KEPT:])
    with contextlib.suppress(OSError, RuntimeError):
        write_bytes_atomic(_cache_file(), json.dumps(newest).encode())

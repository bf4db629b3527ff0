"""A cache of what a plan reads from annotation files, so that not every plan hashes the 470 MB of COCO's.

The cache is in the user's cache folder. Its keys are the path, size and modification time of both files. A run hashes
the files itself when it starts.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamic_rcnn.data import coco_format
from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import cache_folder, write_bytes_atomic

_KEPT = 40
_SETTLED_S = 5.0  # a file that has just changed may change again with the same time stamp
_FIELDS = ("fingerprint", "train_fingerprint", "classes")


def coco_format_dataset(root: Path, paths: dict[str, str]) -> dict[str, Any]:
    """Like dynamic_rcnn.data.dataset.coco_format_dataset, but reads unchanged files only once."""

    def read() -> dict[str, Any]:
        found = datasets.coco_format_dataset(root, paths)
        return {name: found[name] for name in _FIELDS}

    return {"root": str(root), **_cached(root, paths, "dataset", read), **paths}


def shared_images(dataset: dict[str, Any]) -> str | None:
    """A note on images that both splits of a spec's `dataset` have, if any. Reads unchanged files only once."""
    root, paths = Path(dataset["root"]), {name: str(dataset[name]) for name in datasets.PATHS}
    with contextlib.suppress(UserError):  # a launch reports it
        return _cached(root, paths, "shared", lambda: {"note": coco_format.find_shared_images(root, **paths)})["note"]
    return None


def _cached(root: Path, paths: dict[str, str], what: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `read`, from the cache if the annotation files have not changed."""
    files = root / paths["train_ann"], root / paths["val_ann"]
    key = _key(*files)
    known = _read() if key is not None else {}
    name = f"{what} {paths['train_img']} {paths['val_img']} {key}"
    if name in known:
        return known[name]
    found = read()
    if key is not None and key == _key(*files):
        _write({**known, name: found})
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
    except (OSError, ValueError, RuntimeError):
        return {}  # the content is read again
    return known if isinstance(known, dict) else {}


def _write(known: dict[str, dict[str, Any]]) -> None:
    newest = dict(list(known.items())[-_KEPT:])
    with contextlib.suppress(OSError, RuntimeError):
        write_bytes_atomic(_cache_file(), json.dumps(newest).encode())

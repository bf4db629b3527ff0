"""A cache of what image files decode to, so that a launch decodes only files that are new or have changed.

The cache is in the user's cache folder, in one file for each folder of images. A file counts as unchanged while its
size and modification time are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

import cv2

from dynamic_rcnn.data.pixels import Inspection
from dynamic_rcnn.run.files import cache_folder, write_bytes_atomic

Stamps = Mapping[str, tuple[int, int]]  # file name -> size, modification time in nanoseconds

_KEPT = 20  # largest number of files in the cache
_SETTLED_S = 5.0  # a file that has just changed may change again with the same time stamp


def read_known(folder: Path, color_type: str, stamps: Stamps) -> dict[str, Inspection]:
    """The cached inspections of the unchanged files in `folder`, by name. stamps: the files' current stamps."""
    try:
        content = json.loads(_cache_file(folder, color_type).read_bytes())
        return {
            name: Inspection(*found)
            for name, (size, time_ns, *found) in content.items()
            if stamps.get(name) == (size, time_ns)
        }
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError):
        return {}  # the files are decoded again


def write_known(folder: Path, color_type: str, stamps: Stamps, known: Mapping[str, Inspection]) -> None:
    """Write inspections to the cache, except of files that have just changed. Ignores errors of the disk."""
    newest = time.time_ns() - int(_SETTLED_S * 1e9)
    content = {name: [*stamps[name], *astuple(found)] for name, found in known.items() if stamps[name][1] < newest}
    with contextlib.suppress(OSError, RuntimeError):
        file = _cache_file(folder, color_type)
        write_bytes_atomic(file, json.dumps(content, separators=(",", ":")).encode())
        files = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink()


def _cache_file(folder: Path, color_type: str) -> Path:
    key = f"{folder.resolve()} {color_type} OpenCV {cv2.__version__}"
    return cache_folder() / "images" / f"{hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]}.json"

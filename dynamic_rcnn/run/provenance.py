"""provenance.json: what it takes to repeat a run. Torch-free; the trainer adds versions and device."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from dynamic_rcnn.run.directory import PROVENANCE, SCHEMA, read_json, write_json_atomic
from dynamic_rcnn.run.fingerprint import PACKAGE, code_fingerprint
from dynamic_rcnn.run.lock_file import compare_with_lock

PACKAGES = (
    "torch",
    "torchvision",
    "mmdet",
    "mmengine",
    "mmcv",
    "mmcv-lite",
    "numpy",
    "pycocotools",
    "opencv-python",
    "opencv-python-headless",
)
MAX_DIFF = 100_000
FROZEN = PACKAGE.parent / "frozen.json"  # beside the packages in a copy that slurm/code_snapshot.py made


def collect(device: str, threads: int, dataset_fingerprint: str, init_sha256: str | None) -> dict[str, Any]:
    """Return commit, local changes, versions, machine and command of this process."""
    return {
        "schema": SCHEMA,
        **checkout(),
        "code": code_fingerprint(),
        "versions": {"python": platform.python_version(), **_versions()},
        "lock": compare_with_lock(),
        "device": device,
        "processor": _processor(),
        "threads": threads,
        "command": os.environ.get("DYNAMIC_RCNN_COMMAND", "python -m dynamic_rcnn.train RUN_DIR"),
        "dataset_fingerprint": dataset_fingerprint,
        "init_sha256": init_sha256,
    }


def checkout() -> dict[str, Any]:
    """commit, dirty and diff of the package's code; for a frozen copy, those of the checkout that it was made of."""
    if FROZEN.exists():
        frozen = read_json(FROZEN)
        return {key: frozen.get(key) for key in ("commit", "dirty", "diff")}
    # a package installed into some other project's tree is not part of that project's commits
    tracked = bool(_git("ls-files", "--", str(PACKAGE)))
    changes = _git("status", "--porcelain", "--", str(PACKAGE)) if tracked else ""
    return {
        "commit": _git("rev-parse", "HEAD").strip() if tracked else None,
        "dirty": bool(changes),
        "diff": _git("diff", "HEAD", "--", str(PACKAGE))[:MAX_DIFF] if changes else "",
    }


def write(run_dir: Path, provenance: dict[str, Any]) -> None:
    """Write the newest attempt's provenance; what earlier attempts had otherwise is kept in `earlier`."""
    path = run_dir / PROVENANCE
    if path.exists():
        old = read_json(path)
        earlier = old.pop("earlier", [])
        provenance = {**provenance, "earlier": earlier if old == provenance else [*earlier, old]}
    else:
        provenance = {**provenance, "earlier": []}
    write_json_atomic(path, provenance)


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _git(*arguments: str) -> str:
    """What git says of the checkout that this package lies in; "" where there is none."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

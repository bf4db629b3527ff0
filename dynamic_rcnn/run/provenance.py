"""provenance.json: what it takes to repeat a run. Torch-free: the trainer passes the device and its threads.

requirements.lock has the version of every package that the committed results were made with.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from dynamic_rcnn import PROJECT
from dynamic_rcnn.run.files import PROVENANCE, FileContent, Part, file_digest, read_content, write_content
from dynamic_rcnn.run.fingerprint import PACKAGE, code_fingerprint
from dynamic_rcnn.run.process_env import ProcessEnv

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGES = (
    "torch",
    "torchvision",
    "mmdet",
    "mmengine",
    "mmcv",
    "mmcv-lite",
    "numpy",
    "hotcoco",
    "pycocotools",
    "opencv-python",
    "opencv-python-headless",
)
INSTRUCTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")  # variables that change last bits
REQUIREMENTS_LOCK = PROJECT / "requirements.lock"
FROZEN = PACKAGE.parent / "frozen.json"  # beside the packages in a copy that slurm/code_snapshot.py made


class Checkout(FileContent):
    """The commit of the package's code, and its local changes. None if the code is not in a git checkout."""

    commit: str | None = None
    dirty: bool | None = None
    diff: str | None = None


class Arithmetic(Part):
    """How one attempt computed. cuda, cudnn and driver: their versions; None on a CPU."""

    precision: str | None = None
    deterministic: bool | None = None
    tf32: bool | None = None
    cuda: str | None = None
    cudnn: int | None = None
    driver: str | None = None


class Origin(Checkout):
    """What made one attempt. code: its fingerprint. init_sha256: digest of the weights that the run started from.

    lock: the installed packages that differ from requirements.lock. processes: how many trained the run together.
    """

    code: str | None = None
    versions: dict[str, str] | None = None
    lock: dict[str, Any] | None = None
    device: str | None = None
    processor: str | None = None
    threads: int | None = None
    processes: int | None = None
    arithmetic: Arithmetic | None = None
    command: str | None = None
    dataset_fingerprint: str | None = None
    init_sha256: str | None = None


class Provenance(Origin):
    """The content of provenance.json: of the newest attempt, and of earlier ones where they differ."""

    earlier: list[Origin] = Field(default_factory=list)


def collect(**process: Any) -> Origin:
    """Describe this process: commit, local changes, versions, machine and command. process: the other fields."""
    return Origin(
        **checkout().model_dump(exclude={"schema_version"}),
        code=code_fingerprint(),
        versions={"python": platform.python_version(), **_versions()},
        lock=compare_with_lock(),
        processor=_processor(),
        command=ProcessEnv.from_env().command or "python -m dynamic_rcnn.train RUN_DIR",
        **process,
    )


def checkout() -> Checkout:
    """The checkout of the package's code; for a frozen copy, the one that it was copied from."""
    if FROZEN.exists():
        return read_content(Checkout, FROZEN)
    # a package installed into some other project's tree is not part of that project's commits
    tracked = bool(_git("ls-files", "--", str(PACKAGE)))
    changes = _git("status", "--porcelain", "--", str(PACKAGE)) if tracked else ""
    return Checkout(
        commit=_git("rev-parse", "HEAD").strip() if tracked else None,
        dirty=bool(changes),
        diff=_git("diff", "HEAD", "--", str(PACKAGE))[:100_000] if changes else "",
    )


def write(run_dir: Path, origin: Origin) -> None:
    """Write the newest attempt's provenance. Earlier ones that differ are kept in `earlier`."""
    path, earlier = run_dir / PROVENANCE, []
    if path.exists():
        old = read_content(Provenance, path)
        before = Origin(**old.model_dump(by_alias=True, exclude={"earlier"}))
        earlier = old.earlier if before == origin else [*old.earlier, before]
    write_content(path, Provenance(**origin.model_dump(by_alias=True), earlier=earlier))


def read_lock(path: Path = REQUIREMENTS_LOCK) -> Iterator[Requirement]:
    """Yield the requirements of a lock file that apply to this Python and platform."""
    from packaging.requirements import Requirement  # imported late: the import is slow, and most callers do not need it

    for line in path.read_text("utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def compare_with_lock(path: Path = REQUIREMENTS_LOCK) -> dict[str, Any] | None:
    """The lock file's "sha256" and the "differences" of installed packages from it; None without a file.

    Packages that are not installed, such as the tools for development on a cluster, are left out.
    """
    from packaging.utils import canonicalize_name

    if not path.exists():
        return None
    installed = {canonicalize_name(item.name): item.version for item in metadata.distributions() if item.name}
    differences = {}
    for requirement in read_lock(path):
        version = installed.get(canonicalize_name(requirement.name))
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            differences[requirement.name] = {"locked": str(requirement.specifier), "installed": version}
    return {"sha256": file_digest(path), "differences": differences}


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def _git(*arguments: str) -> str:
    """The output of a git command in the checkout of this package; "" if there is none."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _processor() -> str:
    """'AMD EPYC'; with the variables that are set of those that choose its instructions, ', ONEDNN_MAX_CPU_ISA=AVX'."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    chosen = [f"{variable}={os.environ[variable]}" for variable in INSTRUCTIONS if variable in os.environ]
    return ", ".join([name, *chosen])

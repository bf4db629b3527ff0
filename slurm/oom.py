"""Whether the kernel killed a process of this job because memory ran out, from the job's control group."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def killed_here(root: Path = ROOT, own: Path = OWN) -> bool:
    """Whether a control group (version 2 or 1) of this process's job has counted an oom_kill."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return False
    places = [root / path.strip("/") for number, _, path in lines if number == "0"]
    places += [root / "memory" / path.strip("/") for _, names, path in lines if "memory" in names.split(",")]
    return any(_kills(folder) for place in places for folder in _up_to(place, root))


def _up_to(place: Path, root: Path) -> list[Path]:
    """`place` and the folders above it that belong to the job."""
    return [folder for folder in (place, *place.parents) if folder != root and "job_" in folder.as_posix()]


def _kills(folder: Path) -> bool:
    for name in ("memory.events", "memory.oom_control"):
        try:
            words = dict(line.split(maxsplit=1) for line in (folder / name).read_text().splitlines() if " " in line)
        except OSError:
            continue
        if words.get("oom_kill", "0") != "0":
            return True
    return False

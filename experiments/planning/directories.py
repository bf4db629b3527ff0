"""The run directories of a data set, and which of them is most similar to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import RunSpec, differences, is_moved_aside


class Directories:
    """The run directories of a data set, runs/<dataset>/<arm>/seed<k>-<id>, listed once."""

    def __init__(self, runs: Path, dataset: str) -> None:
        self.runs = runs
        self.folder = runs / dataset
        self.names = {arm: names_in(self.folder / arm) for arm in sorted(names_in(self.folder))}
        self._arms: dict[str, str] = {}
        for arm, names in self.names.items():
            for name in names:
                self._arms.setdefault(name, arm)

    def find(self, spec: RunSpec) -> Path:
        """The directory of the run with the id of `spec`, under any arm's name; if there is none, the one to create."""
        path = spec.directory(self.runs)
        if path.name in self.names.get(spec.arm, ()):
            return path
        arm = self._arms.get(path.name)
        return path if arm is None else self.folder / arm / path.name

    def others(self, spec: RunSpec, path: Path) -> list[Path]:
        """Other runs of the same arm and seed as the run in `path`."""
        names = self.names.get(path.parent.name, ())
        found = sorted(name for name in names if name.startswith(f"seed{spec.seed}-") and name != path.name)
        return [other for name in found if not is_moved_aside(other := path.parent / name)]

    def all(self) -> list[Path]:
        """Every run directory."""
        paths = (self.folder / arm / name for arm, names in self.names.items() for name in sorted(names))
        return [path for path in paths if path.name.startswith("seed") and not is_moved_aside(path)]


def nearest_differences(
    spec: RunSpec, path: Path, directories: Directories
) -> tuple[Path, list[tuple[str, Any, Any]]] | None:
    """The most similar other run of this arm and seed, and the fields that differ; None if there is no other run.

    Returns:
        Its directory, and for each field (name, value in the other run, value in this run).
    """
    candidates = []
    for other in directories.others(spec, path):
        try:
            candidates.append((other, differences(RunSpec.read(other), spec)))
        except UserError:
            continue  # skip a damaged record; the plan reports those of this grid
    return min(candidates, key=lambda item: len(item[1])) if candidates else None


def names_in(folder: Path) -> set[str]:
    """The names in a folder without hidden ones; empty if there is no such folder."""
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except (FileNotFoundError, NotADirectoryError):
        return set()

"""The manifests in a folder of runs."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.errors import unknown_name
from dynamic_rcnn.run.files import GRID_SUFFIX
from dynamic_rcnn.run.manifest import Manifest


def find_manifests(runs: Path) -> list[Path]:
    """The paths of all manifests, sorted."""
    return sorted(runs.glob(f"*/*{GRID_SUFFIX}"))


def choose(grids: list[Manifest], names: list[str]) -> list[Manifest]:
    """The grids with one of `names`, or all if there are no names. Raises UserError for an unknown name."""
    valid = {name for grid in grids for name in (grid.name, f"{grid.name}-{grid.setting}")}
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise unknown_name("grid", unknown, valid)
    return [grid for grid in grids if not names or {grid.name, f"{grid.name}-{grid.setting}"} & set(names)]

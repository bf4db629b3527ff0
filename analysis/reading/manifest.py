"""The manifests of a run folder (`<grid>-<setting>.grid.json`): what launches asked for."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.errors import unknown_name
from dynamic_rcnn.run.files import GRID_SUFFIX
from dynamic_rcnn.run.manifest import Manifest, Paper, is_run_path, read_manifest

Grid = Manifest
read_grid = read_manifest
__all__ = ["Grid", "Paper", "choose", "find_manifests", "is_run_path", "read_grid"]


def find_manifests(runs: Path) -> list[Path]:
    """All manifests below `runs`, in an order that does not depend on the file system."""
    return sorted(runs.glob(f"*/*{GRID_SUFFIX}"))


def choose(grids: list[Manifest], names: list[str]) -> list[Manifest]:
    """The grids with one of `names` (all without names). Raises UserError for a name that no grid has."""
    valid = {name for grid in grids for name in (grid.name, f"{grid.name}-{grid.setting}")}
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise unknown_name("grid", unknown, valid)
    return [grid for grid in grids if not names or {grid.name, f"{grid.name}-{grid.setting}"} & set(names)]

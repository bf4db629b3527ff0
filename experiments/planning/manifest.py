"""Writes the manifest of a grid, from which the report knows which runs launches asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynamic_rcnn.run import manifest as manifests
from dynamic_rcnn.run.files import METRICS
from dynamic_rcnn.run.manifest import Manifest, PlannedCell, relative_manifest_path
from experiments.config.grid import Grid


def manifest_path(grid: Grid, runs: Path) -> Path:
    return runs / relative_manifest_path(grid.dataset, grid.name, grid.setting)


def read_cells(path: Path) -> list[PlannedCell]:
    """The runs that earlier launches of a grid asked for; [] without a manifest."""
    manifest = _read(path)
    return manifest.cells if manifest else []


def _read(path: Path) -> Manifest | None:
    return manifests.read_manifest(path, "delete the file; launching writes it again") if path.exists() else None


def write_manifest(grid: Grid, runs: Path, paths: dict[str, Path]) -> None:
    """Write the runs that this launch asks for, and those of earlier launches whose arms have not changed.

    paths: id -> directory of the run, below `runs`.
    """
    target = manifest_path(grid, runs)
    asked = [
        PlannedCell(
            arm=spec.arm, seed=spec.seed, path=paths[spec.id].relative_to(runs).as_posix(), setting=spec.setting
        )
        for spec in grid.runs
    ]
    now, before = {(cell.arm, cell.seed) for cell in asked}, _read(target)
    current = [cell for cell in (before.cells if before else []) if _is_current(cell, grid)]
    kept = [cell for cell in current if (cell.arm, cell.seed) not in now]
    looks = [*before.looks, *_look(current, now, runs)] if before and current else []
    order = list(grid.arms)
    names = ("baselines", "factorial", "equivalence", "seen_seeds", "timed_arms")
    optional: dict[str, Any] = {name: getattr(grid, name) for name in names}
    optional |= {"looks": looks}
    content: dict[str, Any] = {
        **{name: getattr(grid, name) for name in ("name", "title", "task", "setting", "dataset", "base", "changed")},
        **{name: getattr(grid, name) for name in ("baseline", "arms", "paper", "contrasts")},
        **{name: value for name, value in optional.items() if value},
        "weights": weights_of(grid),
        "cells": sorted(kept + asked, key=lambda cell: (order.index(cell.arm), cell.seed)),
    }
    manifests.write_manifest(target, Manifest.model_validate(content))


def _look(earlier: list[PlannedCell], asked: set[tuple[str, int]], runs: Path) -> list[int]:
    """The number of finished seeds of the arms to which this launch adds seeds, as a list of one; [] if there are none.

    Their results may have been the reason to add seeds. earlier, asked: the runs of earlier launches and of this one.
    """
    planned = {(cell.arm, cell.seed) for cell in earlier}
    grown = {arm for arm, _ in planned} & {arm for arm, _ in asked - planned}
    known = {cell.seed for cell in earlier if cell.arm in grown and (runs / cell.path / METRICS).exists()}
    return [len(known)] if known else []


def weights_of(grid: Grid) -> dict[str, str] | None:
    """Name and sha256 of the file that the grid's runs evaluate; None if they train."""
    init = grid.runs[0].init
    return {"name": Path(init["file"]).name, "sha256": init["sha256"]} if init and "file" in init else None


def _is_current(cell: PlannedCell, grid: Grid) -> bool:
    """Whether the run of an earlier launch is still that of its arm; its directory's name ends in its id."""
    return cell.arm in grid.specs and cell.path.endswith(f"-{grid.spec(cell.arm, cell.seed).id}")

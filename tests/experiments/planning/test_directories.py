"""Finding the directory of a run, whichever arm's name it has."""

from __future__ import annotations

from pathlib import Path

from dynamic_rcnn.run.spec import RunSpec
from experiments.planning.directories import Directories


def find(runs: Path, spec: RunSpec) -> Path:
    return Directories(runs, "shapes").find(spec)


def test_the_same_run_is_found_under_another_arms_name(tmp_path: Path) -> None:
    first, second = (RunSpec(arm, 0, {"name": "shapes"}, {}) for arm in ("k16", "default"))
    assert find(tmp_path, second) == tmp_path / "shapes" / "default" / f"seed0-{second.id}"
    first.write(first.directory(tmp_path))
    assert find(tmp_path, second) == first.directory(tmp_path)
    assert find(tmp_path, second.with_seed(1)) == second.with_seed(1).directory(tmp_path)


def test_a_run_that_was_moved_aside_is_not_found(tmp_path: Path) -> None:
    spec = RunSpec("both", 0, {"name": "shapes"}, {})
    directory = spec.directory(tmp_path)
    spec.write(directory.with_name(directory.name + ".stale1"))
    assert not find(tmp_path, spec).exists()

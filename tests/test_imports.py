"""Imports point one way, as docs/architecture.md draws it, and planning and reporting load no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("dynamic_rcnn", "experiments", "slurm", "analysis")
HEAVY = {"torch", "torchvision", "mmdet", "mmengine", "mmcv"}
COMMON = ("dynamic_rcnn.PROJECT", "dynamic_rcnn.cli", "dynamic_rcnn.errors", "dynamic_rcnn.run", "dynamic_rcnn.wording")
TORCH_FREE = ("dynamic_rcnn.cli", "dynamic_rcnn.errors", "dynamic_rcnn.run", "dynamic_rcnn.data")
TORCH_FREE += ("dynamic_rcnn.parallel.rank", "dynamic_rcnn.parallel.processes")
TORCH_FREE += ("dynamic_rcnn.metrics", "dynamic_rcnn.evaluate", "experiments", "slurm", "analysis")
ROOMS = {  # in the order of imports; other modules of a package may be imported by all of them
    "experiments": "launch doctor launching views planning config",
    "dynamic_rcnn": "train tools engine evaluate method ops metrics parallel data run",
    "analysis": "report export images records frames exporting sections stats reading detections rendering",
}


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; names imported from a package may be its modules."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(importer: str, *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in modules().items()
        if within(module, importer)
        for name in imports(path)
        if within(name, *forbidden) and not within(name, *but)
    ]


def test_the_project_is_found() -> None:
    assert {"dynamic_rcnn.train", "experiments.launch", "experiments.launching.local_queue", "analysis.report"} <= set(
        modules()
    )
    assert offences("experiments", "dynamic_rcnn")  # the search finds known imports


def test_the_method_knows_no_grids_clusters_or_reports() -> None:
    assert offences("dynamic_rcnn", "experiments", "slurm", "analysis") == []


def test_slurm_does_not_import_what_its_commands_run() -> None:
    assert offences("slurm", "experiments", "analysis") == []
    assert offences("slurm", "dynamic_rcnn", but=(*COMMON, "dynamic_rcnn.parallel.rank")) == []


def test_analysis_reads_run_directories_only_detections_and_for_images_the_ground_truth() -> None:
    assert offences("analysis", "experiments", "slurm") == []
    read = [
        f"dynamic_rcnn.{name}" for name in ("metrics.columns", "metrics.detections", "metrics.names", "data.pixels")
    ]
    found = offences("analysis", "dynamic_rcnn", but=(*COMMON, *read))
    images = ("data.dataset", "metrics.ap.load_ground_truth")
    assert sorted(found) == [f"analysis.images imports dynamic_rcnn.{name}" for name in images]


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_nothing_to_the_left_of_them(package: str) -> None:
    rooms = [f"{package}.{room}" for room in ROOMS[package].split()]
    assert set(rooms) <= set(modules())
    assert [offence for at, room in enumerate(rooms) for offence in offences(room, *rooms[:at])] == []


def test_the_documentation_lists_the_rooms_in_this_order() -> None:
    page = (PROJECT / "docs/architecture.md").read_text("utf-8")
    assert [rooms for rooms in ROOMS.values() if ", ".join(f"`{room}`" for room in rooms.split()) not in page] == []


def test_experiments_make_no_reports() -> None:
    assert offences("experiments", "analysis") == []


@pytest.mark.parametrize("package", TORCH_FREE)
def test_no_torch_is_named_in(package: str) -> None:
    assert [item for name in HEAVY for item in offences(package, name)] == []


def test_torch_free_modules_load_no_torch() -> None:
    names = [name for name in modules() if within(name, *TORCH_FREE)]
    assert len(names) > 30
    code = f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\n"
    code += f"print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_report_command_starts_without_what_takes_a_second_to_import() -> None:
    code = "import sys, analysis.report; print(sorted({'scipy.stats', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")

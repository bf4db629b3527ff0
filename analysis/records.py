"""Copies what the report needs into a folder that is small enough to commit.

    python analysis/records.py [runs=runs] [out=analysis/records] [grids=ablation,...]

runs   the folder of runs, relative to the current directory; default: runs in the project's root
out    the folder of records, which is replaced; required with runs=, default: analysis/records in the project
grids  only grids with these names, or <name>-<setting>; default: all grids in the folder

Copied: the manifests with the statistics over images, and the spec, status, provenance, curves, metrics and detections
(up to 1 MB) of each run in these grids and of the runs that they start from; gpu.json, the times of benchmarks.gpu. Not
copied: checkpoints, logs, and runs in no grid. Also written: aside.json, which lists the run directories that were
moved aside or are not copied, so that the report accounts for them; SHA256SUMS, with which analysis/report.py (or
`sha256sum -c`) checks every file.
Exit codes: 0 copied, 1 copied although problems were found while reading, 2 bad input, nothing is copied.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

import pandas as pd

from analysis.reading import checksums, superseded
from analysis.reading.image_statistics import GRID_FILES, SHEET_SUFFIX, path_for
from analysis.reading.reader import RECORDS
from analysis.reading.run import MISSING, RECORD_FILES
from analysis.reading.run_table import RunTable, collect
from analysis.reading.superseded import NO_TABLE, SupersededRun
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import DETECTIONS
from dynamic_rcnn.run.gpu_times import GPU_TIMES
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.wording import plural

MAX_DETECTIONS_MB = 1
DEFAULTS = {"runs": "", "out": "", "grids": ""}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 1 if there are problems. Raises UserError, and leaves `out` as it was, if nothing is copied."""
    values = cli.parse(arguments, DEFAULTS)
    runs = Path(values["runs"]) if values["runs"] else ROOT / "runs"
    if values["runs"] and not values["out"]:
        raise UserError("out= must be given with runs=: its default, the committed records, would be replaced")
    out = Path(values["out"]) if values["out"] else ROOT / "analysis/records"
    table = collect(runs)
    checksums.require(runs)
    grids = table.choose_grids(values["grids"])
    if not grids:
        raise UserError(f"{runs}: no grid manifest in this folder; create one with experiments/launch.py")
    paths = run_paths(table, grids)
    names = [name for grid in grids for name in (grid.manifest, path_for(grid), path_for(grid, SHEET_SUFFIX))]
    names.append(GPU_TIMES)
    files = [name for name in names if (runs / name).exists()]
    _check_kept(grids, {*paths, *files}, out)
    files += [f"{path}/{name}" for path in paths for name in RECORD_FILES if (runs / path / name).is_file()]
    sizes = {name: (runs / name).stat().st_size / 1e6 for name in files}
    large = [name for name in files if name.endswith(DETECTIONS) and sizes[name] > MAX_DETECTIONS_MB]
    files = [name for name in files if name not in set(large)]
    replace_folder(runs, files, out, uncopied_runs(table, paths))
    for name in large:
        limit = f"at most {MAX_DETECTIONS_MB} MB of detections per run are copied"
        print(f"{name}: left out, {sizes[name]:.1f} MB ({limit})")
    size = sum(sizes[name] for name in files)
    print(f"{out}: {plural('grid', len(grids))}, {plural('run', len(paths))}, {size:.1f} MB")
    table.print_problems()
    return 1 if table.problems else 0


def run_paths(table: RunTable, grids: list[Manifest]) -> list[str]:
    """The directories of the runs in `grids` and of those they start from. Raises UserError if one is running."""
    frames = [frame for grid in grids for frame in (table.runs_of(grid), table.start_runs(grid))]
    states = {path: state for frame in frames for path, state in zip(frame["path"], frame["state"], strict=True)}
    running = sorted(path for path, state in states.items() if state == "running")
    if running:
        raise UserError(f"{running[0]}: still running; wait for it or cancel it, then copy the records")
    return sorted(states.keys() & set(table.runs["path"]))


def _check_kept(grids: list[Manifest], kept: set[str], out: Path) -> None:
    """Raises UserError if `out` contains a run of `grids`, or gpu.json, that is not among the paths to copy."""
    planned = {GPU_TIMES, *(cell.path for grid in grids for cell in grid.cells)}
    lost = sorted(path for path in planned - kept if (out / path).exists())
    if lost:
        raise UserError(
            f"{out / lost[0]}: would be lost ({plural('such record', len(lost))}): it is missing or unreadable in "
            "runs=; restore it there, or choose another out="
        )


def uncopied_runs(table: RunTable, copied: list[str]) -> list[SupersededRun]:
    """The run directories that were started and are in no table of records of the runs `copied`."""
    if table.superseded is None:
        raise UserError(f"{superseded.NAME} cannot be read, so what was moved aside is unknown; see analysis/report.py")
    rest = table.runs[~table.runs["path"].isin(copied) & (table.runs["state"] != MISSING)]
    rows = zip(rest["path"], rest["state"], rest["attempts"], strict=True)
    return table.superseded + [
        SupersededRun(path=path, reason=NO_TABLE, state=state, attempts=None if pd.isna(count) else int(count))
        for path, state, count in rows
    ]


def replace_folder(source: Path, files: list[str], out: Path, uncopied: list[SupersededRun]) -> None:
    """Replace `out` by copies of `files` from `source`, aside.json and SHA256SUMS.

    `out` is complete or as before. If the process is killed between two renames, the next call restores it.
    """
    _clear_interrupted(out)
    _check_target(source, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        for file in files:
            (fresh / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, fresh / file)
        superseded.write(fresh, uncopied)
        checksums.write(fresh)
        if out.exists():
            out.rename(old)
        fresh.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _clear_interrupted(out: Path) -> None:
    """Restore or remove what a killed process left beside `out`."""
    for old in _leftovers(out, "old"):
        if not out.exists():
            old.rename(out)
    for path in (*_leftovers(out, "old"), *_leftovers(out, "new")):
        shutil.rmtree(path, ignore_errors=True)


def _leftovers(out: Path, kind: str) -> list[Path]:
    """The folders .<name>.<process>.<kind> beside `out` whose process has ended."""
    found = [(path, path.name.split(".")[-2]) for path in out.parent.glob(f".{glob.escape(out.name)}.*.{kind}")]
    return [path for path, process in found if process.isdecimal() and not Path(f"/proc/{process}").exists()]


def _check_target(source: Path, out: Path) -> None:
    """Raises UserError unless `out` is absent, empty, or a folder of records: anything else would be lost."""
    ours, theirs = source.resolve(), out.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise UserError(f"{out}: inside runs={source} or around it; out= must be a separate folder")
    known = {*RECORD_FILES, *RECORDS}
    for path in sorted(out.rglob("*")) if out.is_dir() else [out]:
        if path.is_file() and path.name not in known and not path.name.endswith(GRID_FILES):
            raise UserError(f"{path}: not a record, and {out} is replaced; move it away or choose another out=")


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

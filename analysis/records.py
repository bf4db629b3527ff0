"""Copies what the report needs into a folder that is small enough to commit.

    python analysis/records.py [runs=runs] [out=analysis/records] [grids=ablation,...]

runs   the folder of runs; relative to the current directory; default: runs in the project's root
out    the folder of records, replaced as a whole; default, if runs= is not given: analysis/records here
grids  only grids of these names, or <name>-<setting>; default: all grids in the folder

Taken: the manifests with what was computed over images, and of each run that they name, or that such a run starts
from, its spec, status, provenance, curves, metrics and detections (up to 1 MB). Not taken: checkpoints, logs, runs that
no grid asks for. Written beside: aside.json, which lists the run directories that were moved aside or are not taken, so
that the report accounts for them; SHA256SUMS, with which analysis/report.py (or `sha256sum -c`) checks every file.
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
    cli.exit_quietly_on_interrupt()

import pandas as pd

from analysis.reading import checksums
from analysis.reading import superseded as aside
from analysis.reading.image_statistics import GRID_FILES, place, sheet_place
from analysis.reading.manifest import Grid, choose
from analysis.reading.reader import MISSING
from analysis.reading.records import Records, collect
from analysis.reading.run_files import RECORD_FILES
from analysis.reading.superseded import Aside
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import DETECTIONS
from dynamic_rcnn.wording import plural

MAX_DETECTIONS_BYTES = 1_000_000
DEFAULTS = {"runs": "", "out": "", "grids": ""}


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError, and leaves `out` as it was, for what cannot be taken."""
    values = cli.parse(arguments, DEFAULTS)
    runs = Path(values["runs"]) if values["runs"] else ROOT / "runs"
    if values["runs"] and not values["out"]:
        raise UserError("out= must be given beside runs=: its default, the committed records, would be replaced")
    out = Path(values["out"]) if values["out"] else ROOT / "analysis/records"
    records = collect(runs)
    checksums.require(runs)
    grids = choose(records.grids, [name for name in values["grids"].split(",") if name])
    if not grids:
        raise UserError(f"{runs}: no grid manifest in this folder; make one with experiments/launch.py")
    for line in records.problems:
        print(f"problem: {line}", file=sys.stderr)
    paths = run_paths(records, grids)
    _check_kept(grids, paths, out)
    files = [
        file for grid in grids for file in (grid.manifest, place(grid), sheet_place(grid)) if (runs / file).exists()
    ]
    files += [file for path in paths for file in record_files(runs, path)]
    replace_folder(runs, files, out, in_no_table(records, paths))
    for line in left_out(runs, paths):
        print(line)
    size = sum((out / file).stat().st_size for file in files)
    print(f"{out}: {plural('grid', len(grids))}, {plural('run', len(paths))}, {size / 1e6:.1f} MB")
    return 0


def run_paths(records: Records, grids: list[Grid]) -> list[str]:
    """The directories of the runs that `grids` ask for and of those they start from; none may be running."""
    frames = [frame for grid in grids for frame in (records.of(grid), records.starts(grid))]
    states = {path: state for frame in frames for path, state in zip(frame["path"], frame["state"], strict=True)}
    running = sorted(path for path, state in states.items() if state == "running")
    if running:
        raise UserError(f"{running[0]}: still running; wait for it or cancel it, then copy the records")
    return sorted(path for path in states if path in set(records.runs["path"]))


def _check_kept(grids: list[Grid], paths: list[str], out: Path) -> None:
    """Raises UserError if `out` has a run that `grids` ask for and that is not among the runs `paths` to be taken."""
    asked = {cell.path for grid in grids for cell in grid.cells}
    lost = sorted(path for path in asked - set(paths) if (out / path).exists())
    if lost:
        raise UserError(
            f"{out / lost[0]}: would be lost ({plural('such run', len(lost))}): in runs= it is gone or cannot be read; "
            "bring it back, or give another out="
        )


def in_no_table(records: Records, taken: list[str]) -> list[Aside]:
    """The run directories that were started and that records with the runs `taken` have in no table.

    Raises UserError if that is not known.
    """
    if records.aside is None:
        raise UserError(f"{aside.NAME} cannot be read, so what was moved aside is not known; see analysis/report.py")
    rest = records.runs[~records.runs["path"].isin(taken) & (records.runs["state"] != MISSING)]
    rows = zip(rest["path"], rest["state"], rest["attempts"], strict=True)
    left = [Aside(path, aside.NO_TABLE, state, None if pd.isna(count) else int(count)) for path, state, count in rows]
    return [*records.aside, *left]


def record_files(runs: Path, path: str) -> list[str]:
    """The files of the run at `path` that go into the records: those there are, but for large detections."""
    names = [name for name in RECORD_FILES if (runs / path / name).is_file()]
    return [f"{path}/{name}" for name in names if name != DETECTIONS or not _is_large(runs / path / name)]


def left_out(runs: Path, paths: list[str]) -> list[str]:
    """A line for each run whose detections are too large to commit; the report does not need them."""
    files = [f"{path}/{DETECTIONS}" for path in paths]
    return [
        f"{file}: left out, {(runs / file).stat().st_size / 1e6:.1f} MB "
        f"(at most {MAX_DETECTIONS_BYTES / 1e6:.0f} MB of detections a run go into the records)"
        for file in files
        if _is_large(runs / file)
    ]


def _is_large(path: Path) -> bool:
    return path.exists() and path.stat().st_size > MAX_DETECTIONS_BYTES


def replace_folder(source: Path, files: list[str], out: Path, directories: list[Aside]) -> None:
    """Make `out` hold copies of `files`, the list of `directories`, SHA256SUMS, and nothing else.

    It is complete or as before; killed between two renames it is neither, until this is called again.
    """
    _clear_interrupted(out)
    _check_target(source, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        for file in files:
            (fresh / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, fresh / file)
        aside.write(fresh, directories)
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
    """Put back or away what a killed process left beside `out`."""
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
    """`out` may be absent, empty, or a folder of records; anything else would be lost."""
    ours, theirs = source.resolve(), out.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise UserError(f"{out}: lies within runs={source} or around it; out= must be a folder of its own")
    if not out.exists():
        return
    foreign = [
        path
        for path in (sorted(out.rglob("*")) if out.is_dir() else [out])
        if path.is_file()
        and path.name not in (*RECORD_FILES, checksums.NAME, aside.NAME)
        and not path.name.endswith(GRID_FILES)
    ]
    if foreign:
        raise UserError(
            f"{foreign[0]}: no record, and {out} is replaced as a whole; move it away or choose another out="
        )


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

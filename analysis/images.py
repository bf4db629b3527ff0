"""What saved detections say over images: intervals of AP differences, and where AP is lost. For the report to show.

    python analysis/images.py [runs=runs] [grids=ablation,...] [resamples=1000] [seed=0] [workers=1]

runs       the folder of runs; relative to the current directory; default: runs in the project's root
grids      only grids of these names; default: all grids in the folder
resamples  how often the images are drawn anew
seed       of the drawing
workers    processes that evaluate; the numbers do not depend on it

Writes <grid>-<setting>.images.json beside each grid's manifest, and <grid>-<setting>.images.png: the images on which
the full method (or the first arm) and its baseline differ most; neither, where a run's detections do not give the AP
that its metrics.json says. The ground truth must be where the runs' specs say;
shapes are drawn where they are not there. analysis/report.py reads the files, and says where one is missing or was made
of other detections.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.exit_quietly_on_interrupt()

import numpy as np
import pandas as pd
from pycocotools.coco import COCO

from analysis.detections.bootstrap import bootstrap
from analysis.detections.changes import ap_by_category_and_size, largest_changes
from analysis.detections.columns import Detections, Objects, read_detections, read_objects
from analysis.detections.matching import Matches, match
from analysis.detections.sheet import draw
from analysis.detections.tide import error_frame, find_errors
from analysis.detections.weighted_ap import METRICS, Accumulation
from analysis.reading.image_statistics import place, sheet_place, sources
from analysis.reading.manifest import Grid, choose
from analysis.reading.records import Records, collect
from analysis.sections.claims import FULL_METHOD
from analysis.stats.comparison import Comparison
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.data import dataset
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import ap as evaluation
from dynamic_rcnn.run.directory import DETECTIONS, SCHEMA, write_bytes_atomic, write_json_atomic
from dynamic_rcnn.run.spec import RunSpec

DEFAULTS = {"runs": "", "grids": "", "resamples": "1000", "seed": "0", "workers": "1"}
MOST_CHANGES = 8
TOLERANCE = 1e-9  # in AP as a fraction, for sums in another order


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 2 where a grid's ground truth or detections cannot be read, or give another AP than was recorded;
    the others are computed all the same.

    Raises UserError for other bad input.
    """
    values = cli.parse(arguments, DEFAULTS)
    runs = Path(values["runs"]) if values["runs"] else ROOT / "runs"
    limits = {"resamples": (1, 100_000), "seed": (0, 999_999_999), "workers": (1, 256)}
    numbers = {name: cli.count(name, values[name], *limits[name]) for name in limits}
    records = collect(runs)
    code = 0
    for grid in choose(records.grids, [name for name in values["grids"].split(",") if name]):
        if not grid.trains:
            continue
        try:
            content = _statistics(records, grid, runs, **numbers)
        except UserError as error:
            print(f"error: {grid.key}: {error}", file=sys.stderr)
            code = 2
            continue
        if content is None:
            print(
                f"{grid.key}: no arm and its baseline that both have finished runs with detections; nothing to compare"
            )
            continue
        _write_sheet(runs / sheet_place(grid), content.pop("png"))
        write_json_atomic(runs / place(grid), content)
        print(f"{runs / place(grid)}: {len(content['runs'])} runs on {content['images']} images")
    return code


def _statistics(
    records: Records, grid: Grid, runs: Path, resamples: int, seed: int, workers: int
) -> dict[str, Any] | None:
    """The content of the grid's file, and as `png` its contact sheet; None where there is nothing to compare."""
    comparison = Comparison(records, grid)
    arms = _arms(comparison, runs)
    compared = [arm for arm in comparison.others if arm in arms and grid.baseline_of(arm) in arms]
    if not compared:
        return None
    paths = sorted({path for own in arms.values() for path in own})
    coco, folder = _ground_truth(runs, paths)
    objects = read_objects(coco)
    found = {path: read_detections(objects, evaluation.read_detections(runs / path / DETECTIONS)) for path in paths}
    matches = {path: match(objects, each) for path, each in found.items()}
    check_recorded(comparison.averaged, matches)
    by_arm = {arm: [found[path] for path in own] for arm, own in arms.items()}
    matches_of = {arm: [matches[path] for path in own] for arm, own in arms.items()}
    resampled = bootstrap(matches_of, resamples, np.random.default_rng(seed), workers)
    errors = error_frame({arm: [find_errors(objects, each) for each in own] for arm, own in by_arm.items()})
    shown = FULL_METHOD if FULL_METHOD in compared else compared[0]
    pair = {arm: (by_arm[arm], matches_of[arm]) for arm in (shown, grid.baseline_of(shown))}
    sheet, png = _sheet(grid, coco, objects, folder, pair)
    return {
        **{"schema": SCHEMA, "grid": grid.name, "setting": grid.setting, "baseline": grid.baseline},
        **{"images": len(objects.image_ids), "resamples": resamples, "seed": seed, "runs": sources(runs, paths)},
        "differences": [
            asdict(resampled.estimate(metric, arm, grid.baseline_of(arm))) for arm in compared for metric in METRICS
        ],
        **{"errors": _plain(errors), "sheet": sheet, "png": png},
        "changes": {arm: _changes(objects, by_arm[arm], by_arm[grid.baseline_of(arm)]) for arm in compared},
    }


def _sheet(
    grid: Grid, coco: COCO, objects: Objects, folder: Path, pair: Mapping[str, tuple[list[Detections], list[Matches]]]
) -> tuple[dict[str, Any] | None, bytes | None]:
    """The contact sheet (see `sheet.draw`) of two arms; neither where an image cannot be read, which is said.

    pair: the arm, then its baseline: detections and matches of their seeds.
    """
    detections, matches = zip(*pair.values(), strict=True)
    try:
        return draw(coco, objects, folder, list(pair), detections, matches)
    except UserError as error:
        print(f"{grid.key}: without pictures of images: {error}")
        return None, None


def _write_sheet(path: Path, png: bytes | None) -> None:
    """Write the contact sheet; None: away with an earlier one."""
    if png is None:
        path.unlink(missing_ok=True)
    else:
        write_bytes_atomic(path, png)


def check_recorded(runs: pd.DataFrame, matches: Mapping[str, Matches]) -> None:
    """Raises UserError for the first run whose recorded AP is not the one that its detections give.

    runs: a row a run, with its path and recorded metrics (fractions, NaN where undefined). matches: by path.
    """
    recorded = runs.drop_duplicates("path").set_index("path")[list(METRICS)].astype(float)
    for path, each in matches.items():
        given = Accumulation(each).metrics(np.ones(len(each.image_ids), np.int64))
        for metric, said, value in zip(METRICS, recorded.loc[path], given, strict=True):
            if not np.isclose(said, value, rtol=0, atol=TOLERANCE, equal_nan=True):
                raise UserError(
                    f"{path}: {metric}: metrics.json says {_shown(said)}, its detections give {_shown(value)}; "
                    "one of the two files was changed: put it back, or move metrics.json away, and "
                    "`python -m dynamic_rcnn.evaluate` with the run's directory writes it again"
                )


def _shown(value: float) -> str:
    return "null" if math.isnan(value) else repr(float(value))


def _arms(comparison: Comparison, runs: Path) -> dict[str, list[str]]:
    """Arm -> the directories of its averaged runs that have detections, in table order."""
    rows = comparison.averaged
    paths = {arm: rows.loc[rows["arm"] == arm, "path"].tolist() for arm in comparison.grid.arms}
    with_files = {arm: [path for path in own if (runs / path / DETECTIONS).exists()] for arm, own in paths.items()}
    return {arm: own for arm, own in with_files.items() if own}


def _ground_truth(runs: Path, paths: Sequence[str]) -> tuple[COCO, Path]:
    """The ground truth of the runs, which must be one, and the folder of its images."""
    specs = [RunSpec.read(runs / path) for path in paths]
    fingerprints = {spec.dataset["fingerprint"] for spec in specs}
    if len(fingerprints) > 1:
        raise UserError(f"{paths[0]} and others of its grid are on {len(fingerprints)} data sets; compare those of one")
    root, _ = dataset.prepare(specs[0].dataset)
    data = specs[0].dataset
    return evaluation.load_ground_truth(root / data["val_ann"]), root / data["val_img"]


def _changes(objects: Objects, arm: Sequence[Detections], baseline: Sequence[Detections]) -> list[dict[str, Any]]:
    ours, theirs = ([ap_by_category_and_size(objects, each) for each in part] for part in (arm, baseline))
    return _plain(largest_changes(ours, theirs).head(MOST_CHANGES))


def _plain(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame as JSON has them: NaN is null."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}  # NaN alone is not itself
        for row in frame.astype(object).to_dict("records")
    ]


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

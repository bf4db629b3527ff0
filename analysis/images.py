"""Analyse saved detections over images, for the report: the noise over images, and where AP is lost.

    python analysis/images.py [runs=runs] [grids=ablation,...] [resamples=200] [seed=0] [workers=1]

runs       the folder of runs, relative to the current directory; default: runs in the project's root
grids      only grids of these names; default: all grids in the folder
resamples  number of bootstrap resamples of the images
seed       random seed of the resampling
workers    number of processes; the results do not depend on it

Writes, beside each grid's manifest, <grid>-<setting>.images.json, and the images on which two arms differ most:
<grid>-<setting>.images.png, a picture of 4, and <grid>-<setting>.detections.html, a page to browse 40. The arms are the
full method and its baseline; in a grid without it, the arm whose AP differs most from its baseline's. Two arms are
compared over the seeds that both have. Writes none of them if the detections of a run do not give the AP in its
metrics.json, and no pictures if the images are not on this machine. The runs' specs say where the ground truth is;
missing shapes are drawn.
analysis/report.py shows the results, and reports those that are missing or out of date.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

import numpy as np
import pandas as pd
from pycocotools.coco import COCO

from analysis.detections.bootstrap import bootstrap
from analysis.detections.browser import draw_browser
from analysis.detections.changes import ap_by_category_and_size, largest_changes
from analysis.detections.contact_sheet import draw_contact_sheet
from analysis.detections.matching import Matches, match
from analysis.detections.pair import ArmPair
from analysis.detections.scores import calibration_rows, confusion_of, curve_rows, read_scores
from analysis.detections.tide import error_frame, find_errors
from analysis.detections.weighted_ap import METRICS, Accumulation
from analysis.reading.image_statistics import (
    BROWSER_SUFFIX,
    SHEET_SUFFIX,
    ImageStatistics,
    detection_digests,
    path_for,
)
from analysis.reading.run_table import RunTable, collect
from analysis.rendering.panels import colours_of
from analysis.sections.grid_figures import shown_arms
from analysis.sections.image_section import compared_arm
from analysis.stats.comparison import Comparison
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.data import dataset
from dynamic_rcnn.data.pixels import image_loader
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics import detections as detection_files
from dynamic_rcnn.metrics.ap import load_ground_truth
from dynamic_rcnn.metrics.columns import Detections, Floats, Objects, read_detections, read_objects
from dynamic_rcnn.run.files import DETECTIONS, write_bytes_atomic, write_content
from dynamic_rcnn.run.manifest import Manifest
from dynamic_rcnn.run.schema import validate
from dynamic_rcnn.run.spec import RunSpec

DEFAULTS = {"runs": "", "grids": "", "resamples": "200", "seed": "0", "workers": "1"}
LIMITS = {"resamples": (2, 100_000), "seed": (0, 999_999_999), "workers": (1, 256)}
MOST_CHANGES = 8
_Facts = TypeVar("_Facts")
TOLERANCE = 1e-9  # in AP as a fraction, because sums in another order differ


def main(arguments: Sequence[str]) -> int:
    """Exit code 0, or 2 if the ground truth or detections of a grid cannot be read or give another AP than recorded.

    Raises UserError for other bad input.
    """
    values = cli.parse(arguments, DEFAULTS)
    runs = Path(values["runs"]) if values["runs"] else ROOT / "runs"
    numbers = {name: cli.count(name, values[name], *LIMITS[name]) for name in LIMITS}
    records = collect(runs)
    grids = records.choose_grids(values["grids"])
    code = 0
    for grid in (grid for grid in grids if grid.trains):
        try:
            written = _analyse(records, grid, runs, **numbers)
        except UserError as error:
            print(f"error: {grid.key}: {error}", file=sys.stderr)
            code = 2
        else:
            print(written or f"{grid.key}: no arm and its baseline have finished runs with detections of the same seed")
    return code


def _analyse(records: RunTable, grid: Manifest, runs: Path, resamples: int, seed: int, workers: int) -> str | None:
    """Write the files of one grid. Returns a line about them, or None if there is nothing to compare."""
    comparison = Comparison(records, grid)
    arms = _arms_with_detections(comparison, runs)
    paths = sorted({path for own in arms.values() for path in own})
    pairs = _pairs(comparison, paths)
    if not pairs:
        return None
    coco, folder, color_type = _ground_truth(runs, paths)
    objects = read_objects(coco)
    by_path = {
        path: read_detections(objects, detection_files.read_detections(runs / path / DETECTIONS)) for path in paths
    }
    matched = {path: match(objects, each) for path, each in by_path.items()}
    check_recorded(comparison.averaged, matched)
    resampled = bootstrap([matched[path] for path in paths], resamples, np.random.default_rng(seed), workers)
    errors = error_frame({arm: [find_errors(objects, by_path[path]) for path in own] for arm, own in arms.items()})
    shown = compared_arm(comparison, list(pairs))
    detections = {arm: [by_path[path] for path in own] for arm, own in pairs[shown].items()}
    matches = {arm: [matched[path] for path in own] for arm, own in pairs[shown].items()}
    pair = ArmPair(shown, grid.baseline_of(shown), coco, objects, folder, detections, matches, color_type)
    title = f"Detections of {pair.baseline} and {pair.arm}: {grid.key}"
    colours = colours_of(shown_arms(comparison), list(pairs[shown]))
    browser = partial(draw_browser, pair, title, pairs[shown], colours)
    content = {
        **{"grid": grid.name, "setting": grid.setting, "baseline": grid.baseline},
        **{"images": len(objects.image_ids), "resamples": resamples, "seed": seed},
        "runs": detection_digests(runs, paths),
        "sampling": {name: _sampling(*each) for name, each in resampled.sampling().items()},
        "errors": _json_rows(errors),
        **_scores(objects, arms, by_path, matched),
        "sheet": _write_drawn(runs, grid, SHEET_SUFFIX, "contact sheet", partial(draw_contact_sheet, pair)),
        "changes": _changes(objects, by_path, pairs),
        "pairs_seeds": True,
    }
    _write_drawn(runs, grid, BROWSER_SUFFIX, "browser of detections", browser)
    write_content(runs / path_for(grid), validate(ImageStatistics, content))
    return f"{runs / path_for(grid)}: {len(paths)} runs on {len(objects.image_ids)} images"


def _pairs(comparison: Comparison, paths: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """For each arm with seeds in common with its baseline: {arm: its runs, baseline: its runs}, in this order."""
    found = {}
    for arm in comparison.others:
        baseline = comparison.grid.baseline_of(arm)
        ours, theirs = comparison.paired_paths(arm, baseline, set(paths))
        if ours:
            found[arm] = {arm: ours, baseline: theirs}
    return found


def _write_drawn(
    runs: Path, grid: Manifest, suffix: str, what: str, draw: Callable[[], tuple[_Facts, bytes]]
) -> _Facts | None:
    """Write what is drawn over images. Returns what it shows; None, and there is no file, if they cannot be drawn."""
    path = runs / path_for(grid, suffix)
    try:
        facts, content = draw()
    except UserError as error:
        print(f"{grid.key}: no {what}: {error}")
        path.unlink(missing_ok=True)
        return None
    write_bytes_atomic(path, content)
    return facts


def check_recorded(runs: pd.DataFrame, matches: Mapping[str, Matches]) -> None:
    """Raises UserError for the first run whose recorded AP differs from that of its detections (`matches`, by path)."""
    recorded = runs.drop_duplicates("path").set_index("path")[list(METRICS)].astype(float)
    for path, each in matches.items():
        computed = Accumulation(each).metrics(np.ones(len(each.image_ids), np.int64))
        for metric, known, value in zip(METRICS, recorded.loc[path], computed, strict=True):
            if not np.isclose(known, value, rtol=0, atol=TOLERANCE, equal_nan=True):
                raise UserError(
                    f"{path}: {metric}: metrics.json has {_shown(known)}, the detections give {_shown(value)}; one of "
                    "the two files was changed: restore it, or move metrics.json away and run "
                    "`python -m dynamic_rcnn.evaluate` with the run's directory"
                )


def _shown(value: float) -> str:
    return "null" if math.isnan(value) else repr(float(value))


def _arms_with_detections(comparison: Comparison, runs: Path) -> dict[str, list[str]]:
    """Arm -> the directories of its averaged runs that have detections, in table order. Prints which have none."""
    rows = comparison.averaged
    for path in rows["path"].drop_duplicates():
        if not (runs / path / DETECTIONS).exists():
            print(f"{comparison.grid.key}: {path}: left out, because it has no {DETECTIONS}")
    paths = {arm: rows.loc[rows["arm"] == arm, "path"].tolist() for arm in comparison.grid.arms}
    with_files = {arm: [path for path in own if (runs / path / DETECTIONS).exists()] for arm, own in paths.items()}
    return {arm: own for arm, own in with_files.items() if own}


def _ground_truth(runs: Path, paths: Sequence[str]) -> tuple[COCO, Path, str]:
    """The ground truth that the runs share, the folder of its images, and the color_type that loads them."""
    specs = [RunSpec.read(runs / path) for path in paths]
    count = len({spec.dataset["fingerprint"] for spec in specs})
    if count > 1:
        raise UserError(f"{paths[0]} and other runs of its grid use {count} data sets; they must use one")
    shared = specs[0].dataset
    root, _ = dataset.prepare(shared)
    color_type = image_loader(specs[0].config.get("data", {}).get("test_pipeline", []))[0]
    return load_ground_truth(root / shared["val_ann"]), root / shared["val_img"], color_type


def _changes(
    objects: Objects, detections: Mapping[str, Detections], pairs: Mapping[str, Mapping[str, Sequence[str]]]
) -> dict[str, list[dict[str, Any]]]:
    """Where each arm differs most from its baseline. detections: by run. pairs: see `_pairs`."""
    needed = {path for own in pairs.values() for paths in own.values() for path in paths}
    by_run = {path: ap_by_category_and_size(objects, detections[path]) for path in needed}
    largest = {}
    for arm, own in pairs.items():
        ours, theirs = ([by_run[path] for path in paths] for paths in own.values())
        largest[arm] = _json_rows(largest_changes(ours, theirs).head(MOST_CHANGES))
    return largest


def _scores(
    objects: Objects,
    arms: Mapping[str, Sequence[str]],
    detections: Mapping[str, Detections],
    matches: Mapping[str, Matches],
) -> dict[str, Any]:
    """What the scores of each arm tell, as the fields of `ImageStatistics`. detections, matches: by run."""
    by_run = {}
    for path, each in detections.items():
        try:
            by_run[path] = read_scores(objects, each, matches[path])
        except UserError as error:
            raise UserError(f"{path}/{DETECTIONS}: {error}") from None
    by_arm = {arm: [by_run[path] for path in own] for arm, own in arms.items()}
    confusion = confusion_of(objects.names, by_arm)
    return {"curves": curve_rows(by_arm), "calibration": calibration_rows(by_arm), "confusion": confusion}


def _sampling(values: Floats, covariance: Floats) -> dict[str, Any]:
    """Values and the lower triangle of their covariance, as `Sampling`. Seven digits are enough for a variance."""
    rows = [[float(f"{number:.6e}") for number in row[: at + 1]] for at, row in enumerate(covariance)]
    return {"values": values.tolist(), "covariance": rows}


def _json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, with None for NaN."""
    rows = frame.astype(object).to_dict("records")
    return [{str(name): None if value != value else value for name, value in row.items()} for row in rows]


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

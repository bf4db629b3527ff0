"""Statistics over images: from detections to the file and the report, and the problems if one of them changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis import images, records
from analysis.reading import checksums
from analysis.reading.run_table import collect
from analysis.rendering.panels import COLOURS
from analysis.sections.image_section import compared_arm
from analysis.stats.comparison import Comparison
from dynamic_rcnn.data import dataset
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.ap import evaluate
from dynamic_rcnn.metrics.detections import read_detections, write_detections
from dynamic_rcnn.run.spec import RunSpec
from tests.analysis.synthetic import RunsFolder, edit_json, make_another_run, row_of, write_report
from tests.dynamic_rcnn.data.coco_fixture import write_coco

SHIFTS = {"baseline": (6.0, 4.0), "dla": (2.0, 0.0), "both": (0.0, 0.5)}  # by seed: how far boxes are off, in pixels


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three arms of two seeds on a tiny data set; better arms have boxes closer to the objects."""
    return write_runs(tmp_path, SHIFTS)


def write_runs(tmp_path: Path, by_arm: Mapping[str, Mapping[int, float] | tuple[float, ...]]) -> Path:
    """Runs with these shifts, by arm and seed."""
    layout = write_coco(tmp_path / "data")
    data = dataset.coco_format_dataset(tmp_path / "data", {key: layout[key] for key in dataset.PATHS})
    truth = json.loads((tmp_path / "data" / layout["val_ann"]).read_text())
    folder = RunsFolder(tmp_path / "runs", "mine", {"dataset": {**data, "name": "mine"}})
    for arm, shifts in by_arm.items():
        for seed, shift in shifts.items() if isinstance(shifts, Mapping) else enumerate(shifts):
            run = folder.done(arm, seed, 0.5)
            detect(run, detections(truth, shift))
    folder.manifest(arms={arm: arm for arm in by_arm}, paper=None)
    return tmp_path / "runs"


def detect(run: Path, found: list[dict[str, Any]]) -> None:
    """Give a run these detections and their metrics."""
    write_detections(run / "detections.json.gz", found)
    data = RunSpec.read(run).dataset
    edit_json(
        run / "metrics.json",
        **evaluate(Path(data["root"]) / data["val_ann"], read_detections(run / "detections.json.gz")),
    )


def detections(truth: dict[str, Any], shift: float) -> list[dict[str, Any]]:
    boxes = [item for item in truth["annotations"] if not item["iscrowd"]]
    return [
        {
            "image_id": item["image_id"],
            "category_id": item["category_id"],
            "bbox": [item["bbox"][0] + shift, *item["bbox"][1:]],
            "score": 0.9 - 0.01 * number,
        }
        for number, item in enumerate(boxes)
    ]


def compute(runs: Path, *more: str) -> dict[str, Any]:
    assert images.main([f"runs={runs}", "resamples=50", *more]) == 0
    (file,) = runs.glob("mine/*.images.json")
    return dict(json.loads(file.read_text()))


def test_values_equal_pycocotools_and_the_same_seed_gives_the_same_bytes(runs: Path) -> None:
    content = compute(runs, "seed=3")
    values = {}
    for arm in SHIFTS:
        paths = sorted((runs / "mine" / arm).iterdir())
        spec = json.loads((paths[0] / "spec.json").read_text())["dataset"]
        ground_truth = Path(spec["root"]) / spec["val_ann"]
        found = [evaluate(ground_truth, read_detections(path / "detections.json.gz")) for path in paths]
        values |= {path.relative_to(runs).as_posix(): each["metrics"] for path, each in zip(paths, found, strict=True)}
    assert list(content["runs"]) == sorted(values)
    for name, metric in (("AP", "AP"), ("0.75", "AP75"), ("0.90", "AP90")):
        expected = [values[path][metric] for path in content["runs"]]
        assert content["sampling"][name]["values"] == pytest.approx(expected, abs=1e-12)
    triangle = content["sampling"]["0.75"]["covariance"]
    assert list(map(len, triangle)) == [1, 2, 3, 4, 5, 6] and all(row[-1] >= 0 for row in triangle)
    assert {row["iou"] for row in content["errors"]} == {0.5, 0.75, 0.9} and len(content["errors"]) == 9
    (file,) = runs.glob("mine/*.images.json")
    first = file.read_bytes()
    compute(runs, "seed=3")
    assert file.read_bytes() == first
    assert compute(runs, "seed=4")["sampling"] != content["sampling"]


def test_the_report_shows_the_results_and_the_records_keep_them(runs: Path, tmp_path: Path) -> None:
    before = page(runs, tmp_path)
    assert "Not computed. `python analysis/images.py` computes it" in before
    assert "for the noise between seeds alone (over images: not computed; `python analysis/images.py`" in before
    content = compute(runs)
    text = page(runs, tmp_path)
    shown = [row_of(each, "### Difference from", "both")[1] for each in (before, text)]
    assert shown[0].split("<br>")[0].strip("*") == shown[1].split("<br>")[0].strip("*") and shown[0] != shown[1]
    assert "standard error over images, dla minus baseline" in text and "standard error over" not in before
    assert "95% interval of the mean, for the noise between seeds and over images together." in text
    assert (
        row_of(text, "### Where AP is lost", "0.90 | both")[3:]
        != row_of(text, "### Where AP is lost", "0.90 | dla")[3:]
    )
    error = next(row["error"] for row in content["calibration"] if (row["arm"], row["iou"]) == ("both", 0.75))
    assert row_of(text, "### Is a confident box", "both")[1] == f"{100 * error:.2f}"
    names = ("errors", "precision-recall", "calibration", "confusion")
    assert all(len(list(tmp_path.glob(f"R_files/*-{name}.svg"))) == 1 for name in names)
    assert "### What changed most" in text and "![Where two arms differ most](" in text
    assert "in which AP of both and of baseline differ most; mean over the seeds that both have." in text
    assert "On the 4 images of the validation split: the gain" in text
    (browser,) = runs.glob("mine/*.detections.html")
    assert f"--arm0: {COLOURS[0]}; --arm1: {COLOURS[3]};" in browser.read_text()  # as in the report, dla has COLOURS[1]
    link = f"runs/mine/{browser.name}"
    named = f"[Browse such images](../{link}), filtered by class, size and kind of error."
    assert named in text and "Detections of baseline and both: mine-ablation-" in browser.read_text()
    assert f'<a href="{link}">Browse such images</a>' in (tmp_path / "r.html").read_text()
    picture = next(tmp_path.rglob("*_files/*-images.png")).read_bytes()
    assert picture == next(runs.glob("mine/*.images.png")).read_bytes() and picture.startswith(b"\x89PNG")
    records.main([f"runs={runs}", f"out={tmp_path / 'records'}"])
    records.main([f"runs={runs}", f"out={tmp_path / 'records'}"])  # replaces the existing records
    assert not list((tmp_path / "records").rglob("*.html"))  # it contains images
    (line,) = set(text.split("\n\n")) - set(page(tmp_path / "records", tmp_path).split("\n\n"))
    assert line == named


def page(runs: Path, folder: Path) -> str:
    return write_report(runs, folder / "R.md")


def test_results_of_other_detections_are_a_problem(runs: Path, tmp_path: Path) -> None:
    compute(runs)
    (run,) = (runs / "mine/both").glob("seed1-*")
    detect(run, [])
    message = "computed from detections that have changed since; python analysis/images.py writes it again"
    assert any(message in line for line in collect(runs).problems)
    assert "Not computed" in page(runs, tmp_path)
    compute(runs)
    assert not any(message in line for line in collect(runs).problems)
    (file,) = runs.glob("mine/*.images.json")
    edit_json(file, errors=[{"arm": "both"}])
    assert any("errors[0].iou: must be given" in line for line in collect(runs).problems)


def test_results_that_contradict_the_runs_are_not_used(runs: Path, tmp_path: Path) -> None:
    content = compute(runs)
    (file,) = runs.glob("mine/*.images.json")
    content["sampling"]["AP"]["values"][0] += 0.01
    edit_json(file, sampling=content["sampling"])
    text = page(runs, tmp_path)
    assert f"Not shown: AP of {next(iter(content['runs']))} is " in text
    assert "for the noise between seeds alone (over images: AP of " in text


def test_a_file_of_an_earlier_version_shows_its_tables(runs: Path, tmp_path: Path) -> None:
    """It has differences, but no covariance, so the intervals are those between seeds, and nothing about scores."""
    compute(runs)
    (file,) = runs.glob("mine/*.images.json")
    content = json.loads(file.read_text())
    for name in ("sampling", "curves", "calibration", "confusion", "pairs_seeds"):
        del content[name]
    file.write_text(json.dumps(content | {"differences": []}))
    text = page(runs, tmp_path)
    assert "### Where AP is lost" in text and "noise between seeds alone (over images: not computed" in text
    assert "### Is a confident box" not in text
    assert "differ most; mean over all seeds of each." in text


def test_results_of_fewer_runs_than_are_finished_are_not_shown(runs: Path, tmp_path: Path) -> None:
    (run,) = (runs / "mine/both").glob("seed1-*")
    metrics = (run / "metrics.json").read_bytes()
    (run / "metrics.json").unlink()
    compute(runs)
    assert "### What changed most" in page(runs, tmp_path)
    (run / "metrics.json").write_bytes(metrics)
    text = page(runs, tmp_path)
    assert "Not shown: computed from 5 runs, while 6 runs are finished and averaged now" in text
    assert "### What changed most" not in text


def test_without_the_images_the_sheet_and_the_browser_are_missing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compute(runs)
    assert list(runs.glob("mine/*.images.png"))
    for image in (tmp_path / "data").rglob("*.[jp][pn]g"):
        image.write_bytes(b"")
    content = compute(runs)
    message = capsys.readouterr().out
    for what in ("contact sheet", "browser of detections"):
        (line,) = [line for line in message.splitlines() if f"no {what}: file " in line]
        assert "is empty" in line
    assert content["sheet"] is None and not list(runs.glob("mine/*.images.png"))
    assert not list(runs.glob("mine/*.detections.html")) and "Browse such images" not in page(runs, tmp_path)
    text = page(runs, tmp_path)
    assert "### What changed most" in text and "Where two arms differ most" not in text


def test_two_arms_are_compared_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    """Seed 2 of the baseline is far off, and dla has no such seed."""
    more = write_runs(tmp_path / "more", {"baseline": (6.0, 4.0, 30.0), "dla": (6.0, 4.0), "both": {1: 0.0}})
    content = compute(more)
    assert [row["difference"] for row in content["changes"]["dla"]] == [0] * len(content["changes"]["dla"])
    found = [next((more / "mine" / arm).glob("seed1-*")) / "metrics.json" for arm in ("baseline", "both")]
    ap = [json.loads(path.read_text())["metrics"]["AP"] for path in found]
    whole = next(row for row in content["changes"]["both"] if (row["category"], row["size"]) == ("all", "all"))
    assert [whole["baseline"], whole["arm"]] == pytest.approx(ap) and ap[0] < ap[1]
    fewer = compute(write_runs(tmp_path / "fewer", {"baseline": {1: 4.0}, "both": {1: 0.0}}))
    assert content["sheet"]["images"] == fewer["sheet"]["images"]
    assert content["changes"]["both"] == fewer["changes"]["both"]
    table = collect(more)
    comparison = Comparison(table, table.grids[0])
    assert comparison.paired_paths("both", "baseline") == (
        comparison.paths("both"),
        [path for path in comparison.paths("baseline") if "/seed1-" in path],
    )


def test_arms_without_a_common_seed_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = write_runs(tmp_path, {"baseline": {0: 6.0}, "both": {1: 0.0}})
    assert images.main([f"runs={runs}"]) == 0
    message = "no arm and its baseline have finished runs with detections of the same seed"
    assert message in capsys.readouterr().out and not list(runs.glob("mine/*.images.json"))


def test_the_largest_changes_are_those_of_the_arm_on_the_contact_sheet(tmp_path: Path) -> None:
    """Without the full method it is `far`, whose AP differs most, and not the first arm."""
    runs = write_runs(tmp_path, {"baseline": (6.0, 4.0), "near": (6.0, 3.5), "far": (0.0, 0.0)})
    content = compute(runs)
    assert content["sheet"]["arm"] == "far"
    text = page(runs, tmp_path)
    assert "| class | size | AP, baseline | AP, far | difference |" in text
    (file,) = runs.glob("mine/*.images.json")
    edit_json(file, sheet=None)
    assert "| class | size | AP, baseline | AP, far | difference |" in page(runs, tmp_path)


def test_the_split_is_named_as_in_the_records(runs: Path, tmp_path: Path) -> None:
    compute(runs)
    found = list(runs.glob("mine/*/*/metrics.json"))
    for path in found:
        edit_json(path, split="test")
    assert "On the 4 images of the test split: the gain" in page(runs, tmp_path)
    edit_json(found[0], split="val")
    assert "On the 4 images that the runs were evaluated on: the gain" in page(runs, tmp_path)


@pytest.mark.parametrize(
    ("means", "expected"),
    [({"dla": 0.1, "both": 0.4}, "both"), ({"a": 0.3, "b": 0.1, "c": 0.6}, "b"), ({"a": 0.3, "b": 0.39}, "a")],
)
def test_the_arms_shown_are_the_full_method_or_the_largest_difference(means: dict[str, float], expected: str) -> None:
    def difference(metric: str, arm: str) -> SimpleNamespace:
        return SimpleNamespace(value=means[arm] - 0.4)

    comparison = SimpleNamespace(difference=difference)
    assert compared_arm(comparison, list(means)) == expected  # type: ignore[arg-type]


def test_records_without_detections_are_accepted(runs: Path, tmp_path: Path) -> None:
    """Detections on COCO are too large to commit. In a folder of runs, missing detections are a problem."""
    compute(runs)
    before = page(runs, tmp_path)
    for run in (runs / "mine/both").iterdir():
        (run / "detections.json.gz").unlink()
    assert "detections.json.gz: missing although metrics.json exists" in page(runs, tmp_path)
    checksums.write(runs)
    assert page(runs, tmp_path) == before


SAMPLING = {"values": [0.5] * 6, "covariance": [[0.1] * length for length in range(1, 7)]}
CHANGE = {"category": "a", "size": "all", "arm": 0.2, "baseline": 0.1, "difference": 0.1}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sampling", 3, "sampling=3: must be a mapping"),
        ("sampling", {"AP": SAMPLING | {"values": [0.5]}}, "sampling.AP=1 values: must be 6 values and a triangle"),
        ("sampling", {"0.50": SAMPLING}, "sampling=0.50: must have AP"),
        ("errors", [[]], "errors[0]=[]: must be a mapping"),
        (
            "errors",
            [{"arm": "both", "iou": 0.5}],
            "errors[0].AP: must be given; errors[0].classification: must be",
        ),
        ("runs", [], "runs=[]: must be a mapping"),
        ("changes", None, "changes=None: must be a mapping"),
        ("changes", {"both": [{}]}, "changes.both[0].category: must be given; changes.both[0].size: must be given"),
        ("sampling", {"AP": SAMPLING | {"values": [-1e400] * 6}}, "sampling.AP.values[0]=-inf: must be "),
        ("changes", {"both": [{**CHANGE, "difference": None}]}, "changes.both[0].difference=None: must be a number"),
        ("setting", "ffffffffff", "belongs to grid 'ablation', setting 'ffffffffff'"),
        ("resamples", True, "resamples=True: must be an integer"),
        ("images", "3", "images=3: must be an integer"),
        ("images", 0, "images=0: must be an integer of at least 1"),
        ("resamples", None, "resamples=None: must be an integer"),
        (
            "runs",
            {f"mine/no/such{number}": "0" for number in range(6)},
            "computed from detections that have changed since",
        ),
        ("sheet", {"arm": "both"}, "sheet.baseline: must be given; sheet.images: must be given"),
        ("sheet", {"arm": "a", "baseline": "b", "images": 3, "sha256": "0"}, "sheet.images=3: must be a list"),
        ("sheet", 7, "sheet=7: must be a mapping"),
        (
            "confusion",
            {"of": 2, "classes": ["a", "b"], "shares": {"both": [[1, 0, 0]]}},
            "confusion.shares.both=1 rows: must be 3 rows of 3, one more than classes",
        ),
        (
            "curves",
            [{"arm": "both", "kind": "mean_iou", "iou": None, "x": [0.5], "middle": [], "low": [0.5], "high": [0.5]}],
            "curves[0].middle=0 values: must be 1, as x",
        ),
        (
            "sheet",
            {"arm": "a", "baseline": "b", "images": [], "sha256": "0"},
            "missing, or changed since it was written",
        ),
    ],
)
def test_a_damaged_file_is_a_problem_and_not_shown(
    runs: Path, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    compute(runs)
    (file,) = runs.glob("mine/*.images.json")
    edit_json(file, **{field: value})
    assert any(message in line for line in collect(runs).problems)
    assert "Not computed" in page(runs, tmp_path)


@pytest.mark.parametrize(("metric", "moved"), [("AP", 1e-3), ("AP90", 2e-9), ("AP75", None)])
def test_recorded_ap_that_contradicts_the_detections_is_an_error(
    runs: Path, capsys: pytest.CaptureFixture[str], metric: str, moved: float | None
) -> None:
    """The grid of the edited run gets no file, the other grid does; a difference from rounding is accepted."""
    (manifest,) = runs.glob("mine/*.grid.json")
    content = json.loads(manifest.read_text())
    others = [cell for cell in content["runs"] if cell["arm"] != "both"]
    fewer = {"grid": "fewer", "runs": others, "arms": {arm: arm for arm in ("baseline", "dla")}}
    manifest.with_name(f"fewer-{content['setting']}.grid.json").write_text(json.dumps(content | fewer))
    (run,) = (runs / "mine/both").glob("seed1-*")
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    recorded = None if moved is None else metrics[metric] - moved
    edit_json(run / "metrics.json", metrics={**metrics, metric: recorded})
    assert images.main([f"runs={runs}", "resamples=5"]) == 2
    message = (
        f"{run.relative_to(runs)}: {metric}: metrics.json has {'null' if recorded is None else recorded}, "
        f"the detections give {metrics[metric]}; one of the two files was changed"
    )
    assert message in capsys.readouterr().err
    assert [path.name.split("-")[0] for path in runs.glob("mine/*.images.json")] == ["fewer"]
    edit_json(run / "metrics.json", metrics={**metrics, metric: metrics[metric] - 1e-12})
    assert images.main([f"runs={runs}", "resamples=5"]) == 0


def test_bad_input_is_reported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"argument 'resamples' is '1'; it must be a whole number from 2 to 100000"):
        images.main([f"runs={runs}", "resamples=1"])
    with pytest.raises(UserError, match=r"unknown grid 'ablatoin'"):
        images.main([f"runs={runs}", "grids=ablatoin"])
    for run in sorted((runs / "mine/both").iterdir()):
        make_another_run(run, dataset={**RunSpec.read(run).dataset, "fingerprint": "0"})
    assert images.main([f"runs={runs}"]) == 2
    assert "use 2 data sets; they must use one" in capsys.readouterr().err
    assert not list(runs.glob("mine/*.images.json"))


def test_a_grid_with_nothing_to_compare_is_reported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (runs / "mine/baseline").glob("*/detections.json.gz"):
        file.unlink()
    assert images.main([f"runs={runs}"]) == 0
    out = capsys.readouterr().out
    assert "no arm and its baseline have finished runs with detections" in out
    for run in (runs / "mine/baseline").iterdir():
        assert f"mine/baseline/{run.name}: left out, because it has no detections.json.gz" in out
    assert not list(runs.glob("mine/*.images.json"))


def test_scores_that_are_no_probabilities_are_one_line_with_their_file(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = (runs / "mine/both").glob("seed0-*")
    found = read_detections(run / "detections.json.gz")
    detect(run, [{**row, "score": 1 + row["score"]} for row in found])
    assert images.main([f"runs={runs}", "resamples=2"]) == 2
    name = run.relative_to(runs).as_posix()
    assert f"{name}/detections.json.gz: score is 1.9; calibration needs scores from 0 to 1" in capsys.readouterr().err
    assert not list(runs.glob("mine/*.images.json"))

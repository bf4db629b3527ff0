"""`python -m dynamic_rcnn.evaluate`: saved detections evaluated again, without the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dynamic_rcnn.data import dataset
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.evaluate import main
from dynamic_rcnn.metrics.ap import compute_metrics
from dynamic_rcnn.metrics.detections import write_detections
from dynamic_rcnn.run.files import write_content, write_json_atomic
from dynamic_rcnn.run.results import read_results
from tests.dynamic_rcnn.runs import prepare, small_spec


@pytest.fixture
def run_dir(tmp_path) -> Path:
    """A finished run whose detections are the ground truth of every second object."""
    spec = small_spec(tmp_path / "data")
    folder = prepare(tmp_path / "runs", spec)
    root, _ = dataset.prepare(spec.dataset)
    objects = json.loads((root / spec.dataset["val_ann"]).read_text())["annotations"][::2]
    rows = [{**{key: item[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.5} for item in objects]
    write_detections(folder / "detections.json.gz", rows)
    write_json_atomic(folder / "status.json", {"schema": 1, "state": "done", "iteration": 20, "max_iterations": 20})
    write_content(folder / "metrics.json", compute_metrics(folder, spec, root, 20))
    return folder


def evaluate(run_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dynamic_rcnn.evaluate", str(run_dir), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_metrics_equal_the_recorded_ones(run_dir):
    result = evaluate(run_dir)
    assert result.returncode == 0, result.stderr
    recorded = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert 0.2 < recorded["AP90"] < 0.8
    assert f"AP90   {recorded['AP90']!r}\n" in result.stdout
    assert result.stdout.endswith("metrics.json has the same values\n")


def test_pycocotools_gives_the_same_values(run_dir, monkeypatch, capsys):
    monkeypatch.delattr("dynamic_rcnn.metrics.precision._by_hotcoco")
    assert main([str(run_dir), "evaluator=pycocotools"]) == 0
    assert capsys.readouterr().out.endswith("metrics.json has the same values\n")
    with pytest.raises(UserError, match="argument 'evaluator' is 'coco'; valid: hotcoco, pycocotools"):
        main([str(run_dir), "evaluator=coco"])


def test_a_run_is_evaluated_by_the_evaluator_of_its_spec(tmp_path, run_dir, monkeypatch):
    spec = small_spec(tmp_path / "data", train__evaluator="pycocotools")
    assert spec.id == small_spec(tmp_path / "data").id and spec.evaluator == "pycocotools"
    monkeypatch.delattr("dynamic_rcnn.metrics.precision._by_hotcoco")
    root, _ = dataset.prepare(spec.dataset)
    assert compute_metrics(run_dir, spec, root, 20) == read_results(run_dir)
    del spec.config["train"]["evaluator"]
    assert spec.evaluator == "hotcoco"


def test_a_missing_metrics_file_is_written_again(run_dir):
    before = (run_dir / "metrics.json").read_bytes()
    (run_dir / "metrics.json").unlink()
    assert evaluate(run_dir).returncode == 0
    assert (run_dir / "metrics.json").read_bytes() == before


def test_an_edited_metrics_file_is_reported_and_not_changed(run_dir):
    edited = json.loads((run_dir / "metrics.json").read_text())
    edited["metrics"]["AP"] = 0.389
    write_json_atomic(run_dir / "metrics.json", edited)
    result = evaluate(run_dir)
    assert (result.returncode, result.stderr) == (
        1,
        "metrics.json has other values (AP 0.389); it was not changed\n",
    )
    assert json.loads((run_dir / "metrics.json").read_text()) == edited


def test_bad_input_is_one_line(run_dir, tmp_path):
    assert evaluate(tmp_path).stderr == f"error: {tmp_path}/spec.json: missing\n"
    (run_dir / "detections.json.gz").write_bytes(b"no gzip")
    result = evaluate(run_dir)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "detections.json.gz" in result.stderr
    (run_dir / "detections.json.gz").unlink()
    with pytest.raises(UserError, match=r"is missing although metrics\.json exists; restore it, or move"):
        main([str(run_dir)])
    (run_dir / "metrics.json").unlink()
    with pytest.raises(UserError, match="missing; the run has not been evaluated yet"):
        main([str(run_dir)])

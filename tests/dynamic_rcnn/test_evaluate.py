"""`python -m dynamic_rcnn.evaluate`: saved detections evaluated again, without the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dynamic_rcnn.data import dataset
from dynamic_rcnn.metrics.ap import compute_metrics
from dynamic_rcnn.metrics.detections import write_detections
from dynamic_rcnn.run.files import write_content, write_json_atomic
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


def evaluate(run_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dynamic_rcnn.evaluate", str(run_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_equal_to_what_was_recorded(run_dir):
    result = evaluate(run_dir)
    assert result.returncode == 0, result.stderr
    recorded = json.loads((run_dir / "metrics.json").read_text())["metrics"]
    assert 0.2 < recorded["AP90"] < 0.8
    assert f"AP90   {recorded['AP90']!r}\n" in result.stdout
    assert result.stdout.endswith("metrics.json has the same values\n")


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
    assert "missing; the run has not been evaluated yet" in evaluate(run_dir).stderr

"""Detections on images without annotations, in the format of COCO's server."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.data.dataset import coco_format_dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.checkpoint import save_weights
from dynamic_rcnn.engine.inference import predict
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.detections import results_json
from dynamic_rcnn.run.files import METRICS, WEIGHTS
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.tools import export_test_dev as submission
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco
from tests.dynamic_rcnn.runs import plain_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSpec]:
    """A folder with a run's spec and weights, and a file of images without annotations, with its images."""
    folder = tmp_path_factory.mktemp("made")
    layout = write_coco(folder / "data")
    data = {**coco_format_dataset(folder / "data", layout), "name": "mine"}
    spec = RunSpec("both", 0, data, plain_config("shapes_r18_fpn", 3))
    (folder / "run").mkdir()
    spec.write(folder / "run")
    save_weights(folder / "run" / WEIGHTS, spec.id, 1, build.build_model(spec))
    (folder / "run" / METRICS).write_text("{}")
    (folder / "info.json").write_text((folder / "data" / LAYOUT["val_ann"]).read_text())
    edit_json(folder / "info.json", lambda content: content.pop("annotations"))
    return folder, spec


def arguments(folder: Path, out: Path, info: str = "info.json") -> list[str]:
    return [str(folder / "run"), str(folder / info), f"images={folder / 'data' / LAYOUT['val_img']}", f"out={out}"]


def test_exported_detections_equal_the_models(made: tuple[Path, RunSpec], tmp_path: Path, capsys: Any) -> None:
    folder, spec = made
    out = tmp_path / "detections_test-dev2017_mine_results.zip"
    assert submission.main(arguments(folder, out)) == 0
    assert "only COCO's server can score them" in capsys.readouterr().out
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["detections_test-dev2017_mine_results.json"]
        content = archive.read(archive.namelist()[0])
    rows = json.loads(content)
    images = {image["id"]: image for image in json.loads((folder / "info.json").read_text())["images"]}
    assert {row["image_id"] for row in rows} == set(images) and {row["category_id"] for row in rows} <= {3, 7, 90}
    for row in rows:
        x, y, width, height = row["bbox"]
        image = images[row["image_id"]]
        assert -0.1 <= x <= x + width <= image["width"] + 0.1 and -0.1 <= y <= y + height <= image["height"] + 0.1
    expected = predict(build.build_model(spec), build.build_dataset(spec, "val", folder / "data"), 0)
    assert expected is not None and content == results_json(expected, Path("out"))
    assert submission.main(arguments(folder, tmp_path / "again.json")) == 0
    assert (tmp_path / "again.json").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "key 'categories' is missing; required: 'images' and 'categories'"),
        (lambda content: content["categories"].reverse(), "must be the run's 3 classes, in their order"),
        (lambda content: content["images"][0].update(file_name="none.png"), "none.png is missing or empty"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_refused(
    made: tuple[Path, RunSpec], tmp_path: Path, change: Any, message: str
) -> None:
    folder, _ = made
    (folder / "other.json").write_text((folder / "info.json").read_text())
    edit_json(folder / "other.json", change)
    with pytest.raises(UserError, match=message):
        submission.main(arguments(folder, tmp_path / "x.zip", "other.json"))
    assert list(tmp_path.iterdir()) == []


def test_an_undecodable_image_is_refused_before_anything_is_predicted(
    made: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made
    monkeypatch.setattr(submission, "predict", lambda *_: pytest.fail("it predicts"))
    shutil.copytree(folder / "data" / LAYOUT["val_img"], tmp_path / "images")
    (tmp_path / "images" / "1.png").write_text("<html>404 Not Found</html>")
    with pytest.raises(UserError, match=r"info\.json: image 13: file .*1\.png is an HTML or XML page"):
        submission.export(folder / "run", folder / "info.json", tmp_path / "images", tmp_path / "x.zip")


def test_wrong_arguments_are_refused(made: tuple[Path, RunSpec], tmp_path: Path) -> None:
    folder, _ = made
    whole = arguments(folder, tmp_path / "x.zip")
    for given, message in (
        ([], "give RUN_DIR INFO images=FOLDER out=FILE.zip"),
        (whole[:3], "out=: must be given"),
        ([*whole[:3], "outt=x.zip"], "unknown argument 'outt'; valid: images, out"),
        (arguments(folder, tmp_path / "x.txt"), "must end in .zip"),
        (arguments(folder, tmp_path / "no" / "x.zip"), "must be a file in a folder that exists"),
    ):
        with pytest.raises(UserError) as error:
            submission.main(given)
        assert message in str(error.value)


def test_an_unfinished_run_is_refused(made: tuple[Path, RunSpec], tmp_path: Path) -> None:
    folder, spec = made
    (tmp_path / "run").mkdir()
    spec.write(tmp_path / "run")
    save_weights(tmp_path / "run" / WEIGHTS, spec.id, 1, build.build_model(spec))
    with pytest.raises(UserError, match=r"run: is not done \(it has no metrics\.json\)"):
        submission.main([str(tmp_path / "run"), *arguments(folder, tmp_path / "x.zip")[1:]])
    assert not (tmp_path / "x.zip").exists()

"""grid=released: weights that were trained elsewhere, evaluated without training; with the real trainer."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis import report
from analysis.reading.run_table import collect
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.checkpoint import serialise
from dynamic_rcnn.run.spec import RunSpec, differences
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.doctor import data_findings, doctor
from tests.analysis.synthetic import read_report
from tests.dynamic_rcnn.runs import plain_config
from tests.experiments.coco_layout import write_coco_2017
from tests.experiments.launches import Folder

LOADED = {"torch": "2.9", "cuda": "12.8", "gpus": ["H100"], "parameters": 1, "weights": None, "fault": None}


def named(folder: Path, content: bytes) -> Path:
    """A file with its digest in its name, as OpenMMLab publishes them."""
    path = folder / f"model-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a run of this suite that was trained and evaluated itself."""
    folder = Folder(tmp_path_factory.mktemp("trained"))
    process = folder.start("arms=[both]", "cluster.threads=1", "dataset.recipe.val_images=6", fake=False)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return folder


def arguments(folder: Folder, weights: Path, *more: str) -> list[str]:
    data = ["dataset=shapes_tiny", "dataset.recipe.train_images=2", "dataset.recipe.val_images=6"]
    places = [f"dataset.root={folder.path / 'shapes'}", f"runs={folder.runs}", "cluster=local", "cluster.threads=1"]
    return ["grid=released", *data, *places, f"weights={weights}", *more]


@pytest.mark.slow
def test_evaluating_the_weights_of_a_run_gives_its_metrics(trained: Folder, capsys: Any) -> None:
    own = trained.run("both")
    weights = named(trained.path, (own / "checkpoints" / "weights.pth").read_bytes())
    assert launch.main(arguments(trained, weights, "action=plan")) == 0
    out = capsys.readouterr().out
    assert "as in its name" in out and "not evaluated" in out and "1 evaluation of given weights: 1 new" in out
    assert launch.main(arguments(trained, weights)) == 0
    out = capsys.readouterr().out
    assert "evaluated" in out and "0/?" not in out

    run = trained.run("released")
    detections = (run / "detections.json.gz").read_bytes()
    assert detections == (own / "detections.json.gz").read_bytes() and len(detections) > 100
    found, expected = (json.loads((path / "metrics.json").read_text()) for path in (run, own))
    assert {**found, "iteration": 20} == expected
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["init_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not (run / "checkpoints").exists() and not (run / "train.jsonl").exists()

    assert launch.main(arguments(trained, weights)) == 0  # nothing to do
    assert len(trained.status("released")["attempts"]) == 1
    again = subprocess.run([sys.executable, "-m", "dynamic_rcnn.evaluate", str(run)], capture_output=True, text=True)
    assert "metrics.json has the same values" in again.stdout

    shutil.rmtree(run)  # the same with two processes, as the same run
    assert launch.main(arguments(trained, weights, "cluster.processes=2", "cluster.slots=1")) == 0
    assert (run / "detections.json.gz").read_bytes() == detections


@pytest.mark.slow
def test_an_arm_evaluates_the_weights_of_another_with_views_and_soft_nms(trained: Folder, capsys: Any) -> None:
    """No iteration is trained; with the options of the other arm, the detections are the same."""
    transforms = "[[{type: Resize, scale: [160, 160]}], [{type: RandomFlip, prob: 0.0}], [{type: PackDetInputs}]]"
    views = f"[{{type: LoadImageFromFile}}, {{type: TestTimeAug, transforms: {transforms}}}]"
    nms = "{type: soft_nms, iou_threshold: 0.1}"
    arms = [
        f"++grid.arms.views={{title: one view, weights_of: both, set: {{data.test_pipeline: {views}}}}}",
        f"++grid.arms.soft={{title: Soft-NMS, weights_of: both, set: {{model.test_cfg.rcnn.nms: {nms}}}}}",
    ]
    given = trained.arguments("arms=[both,views,soft]", "cluster.threads=1", "dataset.recipe.val_images=6", *arms)
    assert launch.main([*given, "action=plan"]) == 0
    assert "(3 arms x 1 seeds); 2 of the runs only evaluate weights of others: 2 new, 1 done" in capsys.readouterr().out
    assert launch.main(given) == 0
    own, views_run, soft = (trained.run(arm) for arm in ("both", "views", "soft"))
    detections = [(run / "detections.json.gz").read_bytes() for run in (own, views_run, soft)]
    assert detections[0] == detections[1] != detections[2]
    origin = json.loads((own / "provenance.json").read_text())
    for run in (views_run, soft):
        assert not (run / "checkpoints").exists() and not (run / "train.jsonl").exists()
        assert json.loads((run / "provenance.json").read_text())["init_sha256"] == origin["init_sha256"]
    digest = hashlib.sha256((own / "checkpoints" / "weights.pth").read_bytes()).hexdigest()
    (attempt,) = trained.status("views")["attempts"]
    assert f"evaluates {own.name}, sha256 of its weights {digest[:10]}" in json.dumps(attempt)
    table = collect(trained.runs)
    (grid,) = [grid for grid in table.grids if grid.name == "smoke"]
    assert table.problems == [] and len(table.finished_runs(grid)) == 3
    assert len(table.start_runs(grid)) == 0  # this grid has no pretraining
    assert report.main([f"runs={trained.runs}", f"out={trained.path / 'REPORT.md'}"]) == 0
    assert "| soft" in read_report(trained.path / "REPORT.md")


@pytest.mark.slow
def test_weights_that_change_after_planning_are_refused(trained: Folder) -> None:
    content = (trained.run("both") / "checkpoints" / "weights.pth").read_bytes()
    weights = trained.path / "changing.pth"
    weights.write_bytes(content)
    (spec,) = build_grid(resolve(arguments(trained, weights))[0]).runs
    run = spec.directory(trained.path / "elsewhere")
    run.mkdir(parents=True)
    spec.write(run)
    weights.write_bytes(content + b"\0")
    done = subprocess.run([sys.executable, "-m", "dynamic_rcnn.train", str(run)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "has changed since this run was planned" in json.loads((run / "status.json").read_text())["message"]
    assert not (run / "metrics.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model-00000000.pth", "its name has 00000000: damaged or incomplete"),
        ("none.pth", "no such file; give the path of a file of weights"),
        (".", "a directory or a device, not a file; give the path"),
        ("null", "grid=released evaluates a file of weights; give its path"),
    ],
)
def test_invalid_weights_are_reported_before_anything_starts(
    tmp_path: Path, given: str, message: str, capsys: Any
) -> None:
    (tmp_path / "model-00000000.pth").write_bytes(b"weights")
    place = given if given == "null" else str(tmp_path / given)
    code = launch.main(
        ["grid=released", "dataset=shapes", f"weights={place}", f"runs={tmp_path / 'runs'}", "cluster=local"]
    )
    err = capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and err.startswith("error: weights=") and message in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["grid=ablation"], "trains its runs; only a grid with task: evaluate takes weights"),
        (["grid=released", "seeds=[1]"], "evaluates given weights, once per arm; leave seeds= out"),
        (["grid=released", "+grid.seeds=[0]"], "grid.seeds=[0]: a grid with task: evaluate trains nothing"),
        (
            ["grid=released", "grid.task=evalute"],
            "grid.task=evalute: unknown task (did you mean 'evaluate'?); valid: train",
        ),
        (["grid=released", "grid.paper.weights=62"], "grid.paper.weights=62: must be the first 8"),
    ],
)
def test_settings_that_conflict_with_weights_are_refused(
    tmp_path: Path, more: list[str], message: str, capsys: Any
) -> None:
    weights = named(tmp_path, b"weights")
    assert launch.main([*more, "dataset=shapes", f"weights={weights}", "cluster=local", "action=plan"]) == 2
    assert message in capsys.readouterr().err


def test_a_name_without_a_digest_is_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"weights")
    config, chosen = resolve(["grid=released", "dataset=shapes", f"weights={tmp_path / 'mine.pth'}", "cluster=local"])
    digest = hashlib.sha256(b"weights").hexdigest()
    assert f"weights=mine.pth: sha256 {digest[:8]}, not checked, since its name has no digest" in chosen
    assert config.weights == {"file": str(tmp_path / "mine.pth"), "sha256": digest}


def test_weights_are_evaluated_on_coco_without_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One process evaluates, and no image of train2017 is needed. All else is as published."""
    root = tmp_path / "coco"
    write_coco_2017(root)
    shutil.rmtree(root / "train2017")
    monkeypatch.setattr(data_findings, "COCO", {"val": (4, 12)})
    monkeypatch.setattr(doctor, "_describe_machine", lambda model, weights: LOADED)
    monkeypatch.setattr(doctor, "visible_gpus", lambda: ["0"])
    weights = named(tmp_path, b"weights")
    settings = ["grid=released", "dataset=coco", f"dataset.root={root}", f"weights={weights}", "cluster=local"]
    built = build_grid(resolve([*settings, "base.train.groups=3"])[0])
    assert built.changed == [] and built.runs[0].processes == 1 and built.pretrain is None
    assert launch.main([*settings, "action=doctor"]) == 0
    out = capsys.readouterr().out
    assert "note  weights: the published numbers belong to other weights (sha256 62a3f276): NOT COMPARABLE" in out
    assert "ok    weights:" in out and "ok    val2017: 4 images, 12 annotations" in out and "train2017" not in out
    assert "no training; evaluation on 1 process, as published" in out
    monkeypatch.setattr(doctor, "_describe_machine", lambda model, weights: {**LOADED, "fault": "w.pth: does not fit"})
    (root / "val2017" / "000000000139.jpg").unlink()
    assert launch.main([*settings, "action=doctor"]) == 2
    out = capsys.readouterr().out
    assert "BAD   weights: w.pth: does not fit; choose the base=" in out and "139.jpg is missing or empty" in out


@pytest.mark.parametrize("base", [[], ["base=faster_rcnn_r50_fpn_1x"], ["base=shapes_r18_fpn_scratch"]])
def test_options_of_evaluation_make_runs_of_their_own(tmp_path: Path, base: list[str]) -> None:
    """The arm without options is the run of grid=released."""
    settings = ["dataset=shapes", f"weights={named(tmp_path, b'weights')}", "cluster=local", *base]
    released, options = (build_grid(resolve([f"grid={name}", *settings])[0]) for name in ("released", "test_time"))
    plain = options.specs["released"]
    assert released.runs[0].id == plain.id and len({spec.id for spec in options.runs}) == len(options.runs) == 4
    nms = {f"config.model.test_cfg.rcnn.nms.{name}" for name in ("type", "method", "min_score")}
    for arm, spec in options.specs.items():
        views = {"config.data.test_pipeline"} if "multi_scale" in arm else set()
        assert {field for field, _, _ in differences(plain, spec)} == views | (nms if "soft_nms" in arm else set())


def test_slurm_uses_one_gpu_by_default(tmp_path: Path) -> None:
    weights = named(tmp_path, b"weights")
    settings = ["grid=released", "dataset=shapes", "base=faster_rcnn_r50_fpn_1x", f"weights={weights}", "cluster=slurm"]
    (one,) = build_grid(resolve(settings)[0]).runs
    (eight,) = build_grid(resolve([*settings, "cluster.gpus_per_node=8"])[0]).runs
    assert (one.processes, eight.processes) == (1, 8) and one.id == eight.id


@pytest.mark.slow
def test_random_weights_are_evaluated_on_a_data_set_in_coco_format(tmp_path: Path) -> None:
    """R-50, 80 classes, COCO's layout: random weights are evaluated to the end, and detections are written."""
    write_coco_2017(tmp_path / "coco", val_images=2)
    config = plain_config("faster_rcnn_r50_fpn_1x", 80, {"model.backbone.init_cfg": None})
    torch.manual_seed(0)
    model = build.build_model(RunSpec("x", 0, {}, config))
    weights = named(tmp_path, serialise({"meta": {"CLASSES": ("x",)}, "state_dict": model.state_dict()}))
    size = "base.data.test_pipeline.1.scale=[96,96]"
    settings = ["grid=released", "dataset=coco", f"dataset.root={tmp_path / 'coco'}", f"weights={weights}", size]
    assert launch.main([*settings, "cluster=local", "cluster.threads=1", f"runs={tmp_path / 'runs'}"]) == 0
    (metrics,) = tmp_path.glob("runs/coco/released/seed0-*/metrics.json")
    assert json.loads(metrics.read_text())["images"] == 2

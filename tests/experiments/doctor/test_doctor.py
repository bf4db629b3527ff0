"""action=doctor on valid and damaged data in the layout of COCO."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dynamic_rcnn.run.files import append_jsonl
from dynamic_rcnn.run.status import StatusFile
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.doctor import data_findings, doctor
from tests.experiments.coco_layout import ANNOTATIONS, write_coco_2017

MACHINE: dict[str, Any] = {
    "torch": "2.9",
    "cuda": "12.8",
    "gpus": ["H100"] * 8,
}
PARAMETERS = 41_000_000


def machine(configs: list[Any], parameters: int = PARAMETERS, weights: Any = None, **more: Any) -> dict[str, Any]:
    """The output of `dynamic_rcnn.tools.describe_machine`. weights: of all models, or a function of their depth."""
    models = [config["model"] for config in configs]
    found = [weights(model["backbone"]["depth"]) if callable(weights) else weights for model in models]
    return {**MACHINE, "parameters": [parameters] * len(models), "weights": found, **more}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set whose counts replace those of COCO, on a machine with 8 GPUs and a large disk."""
    write_coco_2017(tmp_path / "coco")
    monkeypatch.setattr(data_findings, "COCO", {"train": (12, 33), "val": (4, 12)})
    monkeypatch.setattr(data_findings, "COCO_TRAINED_ON", 10)
    monkeypatch.setattr(doctor, "_describe_machine", machine)
    monkeypatch.setattr(doctor, "visible_gpus", lambda: list("01234567"))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=10**13))
    return tmp_path / "coco"


def examine(root: Path, *overrides: str, grid: str = "ablation") -> int:
    settings = ["dataset=coco", f"dataset.root={root}", "cluster=local", "cluster.processes=8"]
    return launch.main([f"grid={grid}", "action=doctor", f"runs={root.parent / 'runs'}", *settings, *overrides])


def bad(capsys: Any) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]


def test_another_base_than_the_papers_is_noted(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(doctor, "_describe_machine", lambda configs: machine(configs))
    assert examine(root, "base=mmdet:cascade-rcnn_r50_fpn_1x_coco") == 0
    out = capsys.readouterr().out
    assert "base mmdet:cascade-rcnn_r50_fpn_1x_coco: results are not compared with the paper" in out
    assert "RPN NMS: 0.7 in training and 0.7 in test" in out and "K_beta (beta_topk) is 10 in dsl, both" in out


def test_nothing_is_bad_on_a_machine_that_is_ready(root: Path, capsys: Any) -> None:
    assert examine(root) == 0
    out = capsys.readouterr().out
    assert "ok    train2017: 12 images, 33 annotations; 10 images to train on" in out
    assert "8 groups of 2 images per iteration on 8 processes, learning rate 0.02, as published" in out
    assert out.endswith("nothing found that would spoil the result\n")
    assert not (root.parent / "runs").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("base.train.groups=16", "changed: base.train.groups: NOT COMPARABLE"),
        ("base.optim_wrapper.optimizer.lr=0.01", "changed: base.optim_wrapper.optimizer.lr: NOT COMPARABLE"),
        ("base.model.test_cfg.rpn.nms.iou_threshold=0.7", "Dynamic R-CNN uses one threshold for both"),
    ],
)
def test_a_setting_that_differs_from_the_published_one_is_bad(
    root: Path, override: str, message: str, capsys: Any
) -> None:
    assert examine(root, override) == 2
    assert any(message in line for line in bad(capsys))


def test_arms_with_other_nms_thresholds_are_noted(root: Path, capsys: Any) -> None:
    assert examine(root, grid="controls") == 0
    assert "intentionally different in faster_rcnn, nms_70" in capsys.readouterr().out


def test_wrong_counts_of_coco_are_bad(root: Path, capsys: Any) -> None:
    path = root / ANNOTATIONS.format("train")
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    assert examine(root) == 2
    (line,) = bad(capsys)
    assert "12 images, 32 annotations; COCO 2017 has 12 images, 33 annotations" in line


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing or empty"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:50]),
            "139.jpg is a truncated or damaged JPEG",
        ),
        (lambda path: cv2.imwrite(str(path), np.zeros((9, 9, 3))), "decodes to 9 x 9, annotated as 96 x 80"),
    ],
)
def test_a_damaged_image_is_bad(root: Path, damage: Any, message: str, capsys: Any) -> None:
    damage(root / "val2017" / "000000000139.jpg")
    assert examine(root) == 2
    assert message in bad(capsys)[0]


def test_an_empty_data_folder_is_an_error(tmp_path: Path, capsys: Any) -> None:
    assert examine(tmp_path) == 2
    assert "does not contain COCO 2017 (annotations/instances_train2017.json" in capsys.readouterr().err


def test_missing_or_damaged_pretrained_weights_are_bad(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    content = b"weights"
    path = tmp_path / f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    weights = {"url": "https://x/y.pth", "file": str(path)}
    monkeypatch.setattr(doctor, "_describe_machine", lambda configs: machine(configs, weights=weights))
    assert examine(root) == 2
    assert (
        "no such file; download https://x/y.pth (python -m dynamic_rcnn.tools.fetch only=resnet50,resnet101 does"
        in bad(capsys)[0]
    )
    path.write_bytes(content)
    assert examine(root) == 0
    path.write_bytes(content[:-1])
    assert examine(root) == 2
    assert "delete it and download https://x/y.pth again" in bad(capsys)[0]


def test_the_doctor_checks_all_arms_of_a_timing_grid(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Its one run builds five models, writes no checkpoints, and is measured against its own baseline."""
    asked: list[str] = []

    def noted(configs: list[Any], *weights: str) -> dict[str, Any]:
        asked.extend(config["model"]["type"] for config in configs)
        return machine(configs)

    monkeypatch.setattr(doctor, "_describe_machine", noted)
    assert examine(root, "cluster.processes=1", grid="speed") == 0
    out = capsys.readouterr().out
    assert asked == ["FasterRCNN", "FasterRCNN", "CascadeRCNN", "MaskRCNN", "CascadeRCNN"]
    assert "RPN NMS: 0.85 in training and 0.85 in test, in the baseline and in every arm" in out
    assert "disk" not in out
    wrong = "++grid.arms.cascade.set={model.test_cfg.rpn.nms.iou_threshold: 0.7}"
    assert examine(root, "cluster.processes=1", wrong, grid="speed") == 2
    assert any("one threshold for both, unlike cascade" in line for line in bad(capsys))


def test_weights_and_nms_are_checked_for_every_arm(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """R-50 and R-101 start from different files; an arm whose RPN NMS differs between training and test is named."""
    files = {depth: tmp_path / f"r{depth}-{hashlib.sha256(b'x').hexdigest()[:8]}.pth" for depth in (50, 101)}
    files[50].write_bytes(b"x")
    given = {depth: {"url": f"https://x/{depth}", "file": str(file)} for depth, file in files.items()}
    monkeypatch.setattr(doctor, "_describe_machine", lambda configs: machine(configs, weights=given.__getitem__))
    assert examine(root, grid="backbones") == 2
    (line,) = bad(capsys)
    assert "weights of r101_1x, r101_1x_dynamic, r101_2x, r101_2x_dynamic, r101_3x_mst" in line
    assert (
        f"{files[101]}: no such file; download https://x/101 (python -m dynamic_rcnn.tools.fetch only=resnet50" in line
    )
    files[101].write_bytes(b"x")
    assert examine(root, "arms=[r50_1x,r101_1x]", grid="backbones") == 0
    wrong = "++grid.arms.r101_2x.set={model.test_cfg.rpn.nms.iou_threshold: 0.7}"
    assert examine(root, wrong, grid="backbones") == 2
    assert any("one threshold for both, unlike r101_2x" in line for line in bad(capsys))


@pytest.mark.parametrize(
    ("differs", "message"),
    [
        ({"gpus": ["H100"] * 2}, "sees 2 of 8 GPUs; install a torch for this driver"),
        ({"cuda": None, "gpus": []}, "for the CPU only sees 0 of 8 GPUs"),
        ({"parameters": 10**14}, "free some space or choose another runs="),
    ],
)
def test_missing_gpus_and_a_full_disk_are_bad(
    root: Path, differs: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(doctor, "_describe_machine", lambda configs: machine(configs, **differs))
    assert examine(root) == 2
    assert message in bad(capsys)[0]


def test_status_says_whether_a_run_on_coco_follows_published_curves(root: Path, capsys: Any) -> None:
    settings = ["grid=ablation", "seeds=[0]", "dataset=coco", f"dataset.root={root}", "cluster=local"]
    settings += ["cluster.processes=8", f"runs={root.parent / 'runs'}"]
    built = {run.arm: run for run in build_grid(resolve(settings)[0]).runs}
    for arm, early in (("baseline", 0.5), ("dla", 0.5), ("both", 0.43)):
        run = root.parent / "runs" / "coco" / arm / f"seed0-{built[arm].id}"
        run.mkdir(parents=True)
        built[arm].write(run)
        record = StatusFile(run, 87_960)
        record.start(0)
        record.log({"iteration": 100, "loss": 1.0, "T": early, "beta": 1.0, "seconds": 0.3})
        record.progress(100)
        append_jsonl(run / "evaluations.jsonl", {"iteration": 7330, "AP": 0.21})
    assert launch.main([*settings, "action=status"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "trajectory" in line]
    message, figure = zip(*(line.split("; Figure 5: ") for line in lines), strict=True)
    assert message == (
        "dla/seed0: OFF the published trajectory at 100: T 0.5000 at 100 (0.4208)",
        "both/seed0: so far on the published trajectory: T 0.4300 at 100 (0.4208)",
    )
    assert [text.count("not known yet") for text in figure] == [3, 5]
    log = "AP so far on the published log, by epoch: 21.0 after 1 (21.6)"
    assert [text.endswith(log) for text in figure] == [False, True]  # the log is of both components
    assert launch.main([*settings, "action=status", "json=true"]) == 0
    found = {run["arm"]: run["trajectory"] for run in json.loads(capsys.readouterr().out)["runs"]}
    assert found["baseline"] is None and found["both"].startswith("so far on")


def test_the_doctor_describes_this_machine(tmp_path: Path, capsys: Any) -> None:
    """Runs the real describe_machine, on the smallest data set, whose model has no pretrained weights."""
    settings = ("dataset=shapes_tiny", f"dataset.root={tmp_path}", "cluster=local", f"runs={tmp_path / 'runs'}")
    assert launch.main(["grid=smoke", "action=doctor", *settings]) == 0
    out = capsys.readouterr().out
    assert "ok    GPUs: torch 2." in out and "ok    disk: checkpoints of 5 runs take up to " in out


def test_a_schedule_that_mmengine_refuses_is_bad(tmp_path: Path, capsys: Any) -> None:
    settings = ("dataset=shapes_tiny", f"dataset.root={tmp_path}", "cluster=local", f"runs={tmp_path / 'runs'}")
    schedule = "base.param_scheduler=[{type: LinearLR, start_factor: 0.1, begin: 5, end: 3}]"
    assert launch.main(["grid=smoke", "action=doctor", *settings, schedule]) == 2
    (line,) = bad(capsys)
    assert line.startswith("BAD   configuration: base.param_scheduler[0]={'type': 'LinearLR',")
    assert line.endswith("cannot be built: end should be larger than begin, but got begin=5, end=3")


@pytest.mark.parametrize(("beta_topk", "level"), [(2, "note "), (3, "ok   ")])
def test_more_objects_per_image_than_k_beta_are_noted(root: Path, beta_topk: int, level: str, capsys: Any) -> None:
    """The images that have objects have three each."""
    assert examine(root, f"base.model.train_cfg.rcnn.dynamic_rcnn.beta_topk={beta_topk}") == 2  # a changed setting
    lines = [line for line in capsys.readouterr().out.splitlines() if "objects:" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"{level} objects: 3.0 per image with objects, K_beta (beta_topk) is {beta_topk} in dsl, both"
    )
    assert ("then hold beta at initial_beta; choose a larger beta_topk" in lines[0]) == (level == "note ")


@pytest.mark.parametrize(
    ("objects", "given", "text"),
    [
        (100, [], ""),
        (
            300,
            [],
            "up to 300 per image; their IoUs with 267,069 anchors take about 2.6 GB on a GPU; "
            "base.model.train_cfg.rpn.assigner.gpu_assign_thr=117 computes those of crowded images on the CPU",
        ),
        (300, ["base.model.train_cfg.rpn.assigner.gpu_assign_thr=117"], ""),
        (300, ["base.model.train_cfg.rpn.assigner.gpu_assign_thr=200"], "up to 300 per image"),
        (300, ["base.data.train_pipeline.2.scale=[400,300]"], ""),
    ],
)
def test_crowded_images_are_noted(root: Path, objects: int, given: list[str], text: str) -> None:
    settings = ["grid=ablation", "dataset=coco", f"dataset.root={root}", "cluster=local", *given]
    grid = build_grid(resolve(settings)[0])
    annotations = [{"image_id": 1, "iscrowd": 0}] * objects + [{"image_id": 2, "iscrowd": 1}] * 999
    found = [finding.text for finding in data_findings._check_crowding(grid, annotations)]
    assert len(found) == bool(text) and "".join(found).startswith(text)


def test_where_objects_are_assigned_makes_no_other_run(root: Path) -> None:
    settings = ["grid=ablation", "dataset=coco", f"dataset.root={root}", "cluster=local"]
    assigner = "base.model.train_cfg.rpn.assigner.gpu_assign_thr=50"
    plain, on_cpu = (build_grid(resolve([*settings, *more])[0]) for more in ([], [assigner]))
    assert [run.id for run in plain.runs] == [run.id for run in on_cpu.runs] and on_cpu.changed == []

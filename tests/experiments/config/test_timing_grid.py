"""grid=speed: one run times all arms, the arms match their names, and it runs at the smallest scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.timing_arms import PAIRS, InferenceArm, group_same_networks, is_same_network, raw_scores
from dynamic_rcnn.run.results import read_results
from dynamic_rcnn.run.spec import RunSpec
from experiments import launch
from experiments.config.build import build_grid
from experiments.config.compose import resolve
from experiments.config.grid import Grid
from tests.experiments.config.test_grid import write_coco_2017
from tests.experiments.launches import Folder, end, wait_until

ARMS = ["baseline", "both", "cascade", "dynamic_mask", "cascade_mask"]
CPU = torch.device("cpu")
SHORT = (
    *("grid=speed", "dataset=shapes_tiny", "cluster.threads=1", "cluster.slots=1", "arms=[baseline,both,cascade]"),
    *("grid.benchmark.inference={warmup: 1, rounds: 2, images: 1}", "grid.benchmark.training.warmup=1"),
    *("grid.benchmark.training.rounds=2", "grid.benchmark.training.iterations=1"),
)


def grid(*overrides: str) -> Grid:
    return build_grid(resolve(["grid=speed", "cluster=local", *overrides])[0])


def of_arm(spec: RunSpec, arm: str) -> RunSpec:
    return RunSpec(arm, spec.seed, spec.dataset, {**spec.config, "model": spec.config["arms"][arm]})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, list[Any]]:
    """The run at shapes scale, and two images."""
    spec = grid("dataset=shapes_tiny", f"dataset.root={tmp_path_factory.mktemp('data')}").runs[0]
    root, _ = dataset.prepare(spec.dataset)
    found = build.build_dataset(spec, "val", root)
    return spec, [pseudo_collate([found[number]]) for number in range(2)]


def test_one_run_per_seed_contains_the_models_of_all_arms() -> None:
    found = grid("dataset=shapes", "seeds=[0,1]")
    assert [(run.arm, run.seed, run.task) for run in found.runs] == [
        ("speed", 0, "benchmark"),
        ("speed", 1, "benchmark"),
    ]
    config = found.runs[0].config
    assert list(config["arms"]) == ARMS and list(found.timed_arms or {}) == ARMS
    assert found.pretrain is None and found.changed == []
    assert config["train"]["max_iters"] == 100 * 2 + 20 * 5
    method = [config["arms"][arm]["train_cfg"]["rcnn"]["dynamic_rcnn"] for arm in ("baseline", "both")]
    assert [(each["label_assignment"], each["smooth_l1"]) for each in method] == [(False, False), (True, True)]


def test_on_coco_one_group_trains(tmp_path: Path) -> None:
    found = grid("dataset=coco", f"dataset.root={write_coco_2017(tmp_path)}")
    config = found.runs[0].config
    train = config["train"]
    assert (train["groups"], train["images_per_group"], train["processes"], found.changed) == (1, 2, 1, [])
    assert config["optim_wrapper"]["optimizer"]["lr"] == pytest.approx(0.0025)
    assert config["benchmark"]["training"]["warmup"] == 100


@pytest.mark.parametrize(("arm", "file"), [("cascade", "cascade-rcnn"), ("cascade_mask", "cascade-mask-rcnn")])
def test_the_cascade_arms_have_mmdets_heads(tmp_path: Path, arm: str, file: str) -> None:
    import mmdet

    place = Path(mmdet.__file__).parent / f".mim/configs/_base_/models/{file}_r50_fpn.py"
    published = Config.fromfile(place).model.to_dict()
    model = grid("dataset=coco", f"dataset.root={write_coco_2017(tmp_path)}").runs[0].config["arms"][arm]
    assert (model["type"], model["backbone"]["depth"]) == (published["type"], 50)
    own, theirs = listed(model["roi_head"]), listed(published["roi_head"])
    assert {**own, **without_classes(own)} == {**theirs, **without_classes(theirs)}
    stages = zip(model["train_cfg"]["rcnn"], published["train_cfg"]["rcnn"], strict=True)
    assert [ours["assigner"] for ours, _ in stages] == [each["assigner"] for each in published["train_cfg"]["rcnn"]]
    assert model["test_cfg"]["rcnn"] == published["test_cfg"]["rcnn"]


def listed(value: Any) -> Any:
    """Tuples as lists, without the number of classes and mmcv's default of finest_scale."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items() if (key, item) not in (("finest_scale", 56),)}
    return [listed(item) for item in value] if isinstance(value, list | tuple) else value


def without_classes(head: dict[str, Any]) -> dict[str, Any]:
    drop = {"num_classes": 0}
    parts = {"bbox_head": [{**each, **drop} for each in head["bbox_head"]]}
    return parts | ({"mask_head": {**head["mask_head"], **drop}} if "mask_head" in head else {})


def test_baseline_and_both_are_one_network_and_the_others_are_not(images: Any) -> None:
    spec, batches = images
    models = {arm: build.build_model(of_arm(spec, arm)).eval() for arm in ("baseline", "both", "cascade")}
    baseline, both = models["baseline"], models["both"]
    with torch.no_grad():  # other weights than the baseline's, which is_same_network has to undo
        both.roi_head.bbox_head.fc_cls.weight.add_(1.0)
    assert group_same_networks(models, batches) == [["baseline", "both"], ["cascade"]]
    ours, theirs = ([(key, value.shape) for key, value in each.state_dict().items()] for each in (baseline, both))
    assert ours == theirs
    both.roi_head.test_cfg.score_thr = 0.2  # the same parameters, another computation
    baseline.roi_head.test_cfg.score_thr = 0.01
    assert not is_same_network(baseline, both, batches)


def test_every_arm_has_the_same_amount_of_post_processing(images: Any) -> None:
    spec, batches = images
    most = spec.config["model"]["test_cfg"]
    for name in ARMS:
        arm = InferenceArm(of_arm(spec, name), CPU)
        arm.calibrate(batches)
        assert arm.proposals == most["rpn"]["max_per_img"], name
        assert 0.8 * most["rcnn"]["max_per_img"] <= arm.detections <= most["rcnn"]["max_per_img"], name
        with torch.no_grad():
            passing = sum(int((raw_scores(arm.model, batch)[0] > arm.score_thr).sum()) for batch in batches)
        assert passing == PAIRS * len(batches) * arm.proposals, name


@pytest.mark.slow
def test_a_timing_run_is_done_and_reported(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    process = folder.start(*SHORT, fake=False)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    run = folder.run("speed")
    found = read_results(run)
    assert list(found.training.seconds) and set(found.training.seconds) == {"baseline", "both"}
    assert set(found.inference.seconds) == {"baseline", "both", "cascade"}
    parts = (found.training, found.inference)
    assert all(set(rounds) == {0, 1} for part in parts for rounds in part.seconds.values())
    assert found.device == "cpu" and not found.training.peaks and found.same_network("baseline", "both")
    content = json.loads((run / "metrics.json").read_text())
    assert content["iteration"] == folder.status("speed")["iteration"] == 10
    code, out, _ = folder.launch(*SHORT, "action=plan")
    assert code == 0 and "done" in out and "10/10" in out


@pytest.mark.slow
def test_a_stopped_timing_run_starts_over(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    endless = (*SHORT, "grid.benchmark.inference={warmup: 1, rounds: 100000, images: 1}")
    process = folder.start(*endless, fake=False)
    wait_until(lambda: folder.iteration("speed") > 3, seconds=300)
    code, _, err = end(process)
    assert code == 130 and "Traceback" not in err
    status = folder.status("speed")
    assert (status["state"], status["cause"]) == ("failed", "interrupted")
    assert status["message"].endswith("blocks; it will start over")
    process = folder.start(*endless, fake=False)
    wait_until(lambda: len(folder.status("speed")["attempts"]) == 2, seconds=300)
    attempt = folder.status("speed")["attempts"][1]
    end(process)
    assert attempt["from_iteration"] == 0


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["arms=[both,cascade]"], "arms=['both', 'cascade']: must contain baseline, the baseline of all arms"),
        (["grid.task=benchmar"], "grid.task=benchmar: unknown task (did you mean 'benchmark'?); valid: train"),
        (["grid.task=train"], "belongs to grid.task=benchmark; the task is train"),
        (["grid.benchmark.training.rounds=1"], "grid.benchmark.training.rounds=1: must be an integer of at least 2"),
        (["+grid.benchmark.inference.image=3"], "unknown setting 'image' in grid.benchmark.inference"),
        (["grid.benchmark.training.arms=[both]"], "must be a list with the baseline baseline"),
        (
            ["grid.benchmark.training.arms=[baseline,bth]"],
            "grid.benchmark.training.arms=bth: unknown arm; valid: baseline",
        ),
        (["grid.benchmark.training.arms=[[1],baseline]"], "grid.benchmark.training.arms[0]=[1]: must be text"),
        (["++grid.contrasts=[[both,baseline]]"], "must be left out with task: benchmark"),
        (
            ["++grid.arms.both.baseline=baseline"],
            "grid.arms.both.baseline=baseline: must be left out with task: benchmark",
        ),
        (["++grid.arms.both.replay=cascade"], "grid.arms.both.replay=cascade: must be left out with task: benchmark"),
        (["++grid.arms.both.set={train.groups: 2}"], "timed on the same data and schedule; set only model.*"),
        (["cluster.processes=2"], "cluster: 2 processes for a grid that times its arms in one"),
        (
            ["grid=ablation", "++grid.benchmark={}"],
            "grid.benchmark.training: must be given; grid.benchmark.inference: must be given",
        ),
    ],
)
def test_wrong_settings_are_refused(
    overrides: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["grid=speed"] if not any(item.startswith("grid=") for item in overrides) else []
    common = ["dataset=shapes", "cluster=local", "action=plan", f"runs={tmp_path}"]
    assert launch.main([*given, *common, *overrides]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1

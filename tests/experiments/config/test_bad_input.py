"""Bad input ends in exit code 2 and one line that names field, value, rule and valid names; nothing is created."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import launch
from experiments.launching import local
from tests.dynamic_rcnn.data.coco_fixture import LAYOUT, edit_json, write_coco
from tests.experiments.launches import LAUNCH, listing

PATHS = ("dataset.train_ann=a.json", "dataset.val_ann=b.json")
TRAIN = "base.train.max_itres=3"
METHOD = "base.model.train_cfg.rcnn.dynamic_rcnn"
CASES = [
    (
        ["grid=ablatoin"],
        "grid=ablatoin: unknown grid (did you mean 'ablation'?); valid: ablation, advise, backbones, beta, cascade",
    ),
    (
        ["grid=iou_topk", "++grid.arms.ki_64.set_for={shapes: {}}"],
        "grid.arms.ki_64.set_for.shapes=shapes: unknown base (did you mean 'shapes_r18_fpn'?); valid: faster",
    ),
    (
        ["grid=dynamics", "arms=[baseline,end_point]"],
        "arms=end_point: replays both, whose runs come first; choose both as well",
    ),
    (
        ["grid=controls", "grid.contrasts=[[both,bth]]"],
        "grid.contrasts[0]=['both', 'bth']: must be a pair of different arms",
    ),
    (
        ["++grid.factorial={DLA: [dla, both], DSL: [dsl]}"],
        "must be two factors with the two arms that have each, one of them in both lists, such as {DLA: [dla, both]",
    ),
    (["++grid.factorial={DLA: [dla, baseline], DSL: [dsl, baseline]}"], "; the baseline has neither; valid: baseline"),
    (["++grid.factorial={X: [dla, both]}", "grid.seeds=[0]"], "grid.factorial={'DLA': ['dla', 'both'], "),
    (
        ["grid=dynamics", "grid.equivalence=[{arms: [both], margins: {AP: 0.5}}]"],
        "grid.equivalence[0].arms=['both']: must be two or more different arms; valid: baseline, both",
    ),
    (
        ["grid=dynamics", "grid.equivalence=[{arms: [both, dla], margins: {APX: 0.5}}]"],
        "grid.equivalence[0].margins.APX=0.5: unknown metric; valid: AP, AP50",
    ),
    (
        ["grid=dynamics", "grid.equivalence=[{arms: [both, dla], margins: {AP: 0}}]"],
        "grid.equivalence[0].margins.AP=0: must be a positive number",
    ),
    (
        ["grid=dynamics", "grid.arms.end_point.replay=bth"],
        "grid.arms.end_point.replay=bth: unknown arm; valid: baseline, both, static_joint, dla_beta_1_6",
    ),
    (
        ["grid=dynamics", "++grid.arms.end_point.set={model.train_cfg.rcnn.dynamic_rcnn.smooth_l1: true}"],
        "arm end_point: replays both, so label_assignment and smooth_l1 must be false",
    ),
    (
        ["grid=controls", "++base.model.roi_head.bbox_head.loss_bbox={type: L1Loss}"],
        "grid.arms.both: dynamic_rcnn.smooth_l1=true: needs bbox_head.loss_bbox of type SmoothL1Loss, not L1Loss; set",
    ),
    (
        ["grid=dynamics", "++grid.arms.end_point.set={model.roi_head.bbox_head.loss_bbox.type: L1Loss}"],
        "arm end_point: replays both, so both need a beta: loss_bbox of type SmoothL1Loss",
    ),
    (
        ["grid=backbones", "arms=[r101_dcn_3x_mst_multi_scale]"],
        "evaluates r101_dcn_3x_mst, whose runs come first; choose r101_dcn_3x_mst as well",
    ),
    (["++grid.arms.both.weights_of=bth"], "grid.arms.both.weights_of=bth: unknown arm; valid: baseline, dla, dsl"),
    (
        ["++grid.arms.both.weights_of=dla"],
        "both.set=model.train_cfg.rcnn.dynamic_rcnn.label_assignment: an arm with weights_of sets only evaluation "
        "options: model.test_cfg, data.test_pipeline",
    ),
    (
        ["grid=dynamics", "++grid.arms.end_point.weights_of=both"],
        "grid.arms.end_point.replay=both: an arm with weights_of trains nothing; remove one of the two",
    ),
    (
        ["grid=mask", "base.data.test_pipeline=[{type: TestTimeAug, transforms: []}]"],
        "base.data.test_pipeline=TestTimeAug: TestTimeAug merges boxes only, and this model has masks",
    ),
    (["++grid.contrasts=[[both,[1]]]"], "grid.contrasts[0]=['both', [1]]: must be a pair of different"),
    (["++grid.arms.both.baseline=[1]"], "grid.arms.both.baseline=[1]: must be text, or null"),
    (
        ["dataset=shapes", "base.model.roi_head.bbox_head.num_classes=7"],
        "base: num_classes=7: the data set has 6 classes; set it to null",
    ),
    ([f"runs={Path(__file__)}"], "test_bad_input.py: is a file; runs= must name a folder of runs"),
    (["grid=iou_topk", "++grid.arms.ki_64.sets={}"], "unknown setting 'sets' in grid.arms.ki_64"),
    (["++grid.seen_seeds={shapes: 0}"], "grid.seen_seeds.shapes=0: must be a list"),
    (["grid=null"], "grid=null: must be one name; valid: ablation, advise, backbones, beta, cascade"),
    (["grid=[smoke,ablation]"], "grid=[smoke,ablation]: must be one name; valid: ablation"),
    (["grid=smoke,ablation"], "grid=smoke,ablation: must be one name; valid: ablation"),
    (["dataset=shapse"], "unknown dataset (did you mean 'shapes'?); valid: auto, coco, coco_format, shapes"),
    (["cluster=moon"], "cluster=moon: unknown cluster; valid: auto, local, slurm"),
    (["base=r50"], "base=r50: unknown base; valid: faster_rcnn_r50_fpn_1x, mask_rcnn_r50_fpn_1x"),
    (["action=lunch"], "action=lunch: unknown action (did you mean 'launch'?); valid: launch, plan, doctor"),
    (["rerun=all"], "rerun=all: unknown rerun; valid: none, stale"),
    (["watch=maybe"], "watch=maybe: must be true or false"),
    (["arms=[both,both]"], "arms=['both', 'both']: must be different arms"),
    (["arms=[dsl,dlaa]"], "arms=dlaa: unknown arm (did you mean 'dla'?); valid: baseline, dla, dsl, both"),
    (["arms=[]"], "arms=[]: must be a list with at least one of baseline, dla, dsl, both"),
    (["arms=[[dla]]"], "arms[0]=['dla']: must be text"),
    (["seeds=[0,a]"], "seeds[1]=a: must be an integer from 0 to 2147483647"),
    (["seeds=[1.5]"], "seeds[0]=1.5: must be an integer from 0 to 2147483647"),
    (["seeds=[true]"], "seeds[0]=True: must be an integer from 0 to 2147483647"),
    (["seeds=[-1]"], "seeds[0]=-1: must be an integer from 0 to 2147483647"),
    (["seeds=[2147483648]"], "seeds[0]=2147483648: must be an integer from 0 to 2147483647"),
    (["seeds=3"], "seeds=3: must be a list with at least one seed"),
    (["seeds=[]"], "seeds=[]: must be a list with at least one seed"),
    (["seeds=[4,4]"], "seeds=[4, 4]: a seed is given twice"),
    (
        ["seeds=[0"],
        "seeds=[0: cannot be read (no viable alternative at input '[0'); close brackets and quotes;",
    ),
    (["base.train.max_iters=a=b"], """needs two pairs of quotes: "base.train.max_iters='...'\""""),
    (["runs={a: 1}"], "runs={'a': 1}: must be a folder"),
    (["seeds=0,a"], "seeds[1]=a: must be an integer from 0 to 2147483647"),
    (["seeds=[010]"], "seeds[0]=010: must be an integer from 0 to 2147483647"),
    (
        ["grid=ablation.yaml"],
        "grid=ablation.yaml: unknown grid (did you mean 'ablation'?); valid: ablation, advise, backbones",
    ),
    (["hydra.run.dir=x"], "hydra.run.dir=x: settings of Hydra have no effect on the launcher; remove it"),
    (["hydra.job.chdir=true"], "hydra.job.chdir=true: settings of Hydra have no effect"),
    (["+hydra/launcher=joblib"], "+hydra/launcher=joblib: settings of Hydra have no effect"),
    (["cluster.threads=1000000"], "cluster.threads=1000000: must be an integer from 1 to 1024, or null"),
    (
        ["base.optim_wrapper.optimizer.momentum='0.9'"],
        "base.optim_wrapper.optimizer.momentum='0.9': must be a number, not text; remove the quotes",
    ),
    (
        ["++grid.arms.dla.set={param_scheduler: [{type: LinearLR, start_factor: '1e-3'}]}"],
        "grid.arms.dla.param_scheduler.0.start_factor='1e-3': must be a number, not text; remove the quotes",
    ),
    (
        ["seeds=[-1]", "base.train.workers=-1"],
        "seeds[0]=-1: must be an integer from 0 to 2147483647; base.train.workers=-1: must be an integer of at least 0",
    ),
    (
        ["lines=0", "++grid.arms.dla.set={train.max_iters: 0}"],
        "lines=0: must be an integer of at least 1; grid.arms.dla: base.train.max_iters=0: must be an integer of at",
    ),
    (["seeds=???"], "seeds: must be given"),
    (["runs="], "runs=: must be a folder"),
    (["runs=3"], "runs=3: must be a folder"),
    (["plan"], "'plan': an argument has the form name=value"),
    (["--multirun"], "--multirun: unknown flag; valid: --help"),
    (["sedes=[0]"], "unknown setting 'sedes' (did you mean 'seeds'?); valid: action, arms, base"),
    (["+foo=1"], "unknown setting 'foo'; valid: action, arms, base"),
    (
        [TRAIN],
        f"{TRAIN}: unknown setting 'max_itres' in base.train (did you mean 'max_iters'?); valid: check",
    ),
    (["+base.train.foo=1"], "unknown setting 'foo' in base.train; valid: checkpoint_interval"),
    (["~base.train.workers"], "base.train.workers: must be given"),
    (["base.train.max_iters=0"], "base.train.max_iters=0: must be an integer of at least 1"),
    (["base.train.max_iters=many"], "base.train.max_iters=many: must be an integer of at least 1"),
    (["base.train.groups=2.5"], "base.train.groups=2.5: must be an integer of at least 1"),
    (["base.train.evaluator=coco"], "base.train.evaluator=coco: must be one of hotcoco, pycocotools"),
    (["base.train.val_interval=epochs"], "val_interval=epochs: must be an integer of at least 0, or epoch"),
    (["dataset.stage=x"], "dataset.stage=x: must be an absolute path, or begin with a variable of the node"),
    (["base.train.workers=-1"], "base.train.workers=-1: must be an integer of at least 0"),
    (
        ["seeds=[-1]", "action=lunch", "grid.title=3"],
        "action=lunch: unknown action (did you mean 'launch'?); valid: launch, plan, doctor, status, logs, cancel, "
        "why, script, advise; seeds[0]=-1: must be an integer from 0 to 2147483647; grid.title=3: must be text",
    ),
    (
        ["base.train.workers=-1", "base.train.log_interval=0"],
        "base.train.log_interval=0: must be an integer of at least 1; base.train.workers=-1: must be an integer of at",
    ),
    (
        ["++grid.arms.dla.set={train.max_itres: 3}", "++grid.arms.dsl.set={train.max_iters: 0}"],
        "valid: checkpoint_interval, deterministic, evaluator, group_by_aspect_ratio, groups, images_per_group, "
        "keep_checkpoints, log_interval, max_epochs, max_iters, precision, prefetch, processes, val_interval, workers; "
        "grid.arms.dsl: base.train.max_iters=0: must be an integer of",
    ),
    (["base.train.max_epochs=3"], "max_epochs=3; give one of the two, and null for the other"),
    (["base.train.max_iters=${nothing}"], "Interpolation key 'nothing' not found"),
    (["base.model=3"], "base.model=3: must be a mapping"),
    (["base.optim_wrapper.optimizer.lr=abc"], "base.optim_wrapper.optimizer.lr=abc: must be a positive number"),
    (["base.optim_wrapper.optimizer.lr=nan"], "base.optim_wrapper.optimizer.lr=nan: must be a positive number"),
    (["base.optim_wrapper.optimizer.momentum=inf"], "config.optim_wrapper.optimizer.momentum: must be a finite number"),
    (
        [f"{METHOD}.statistic=autor"],
        "dynamic_rcnn.statistic=autor: must be mmdet, author, or a list",
    ),
    ([f"{METHOD}.iou_topk=-3"], "dynamic_rcnn.iou_topk=-3: must be an integer of at least 1"),
    ([f"{METHOD}.initial_iou=2"], "dynamic_rcnn.initial_iou=2: must be above 0 and at most 1"),
    ([f"{METHOD}.smooth_l1=1"], "dynamic_rcnn.smooth_l1=1: must be true or false"),
    (["base.pretrain.set=null"], "base.pretrain.set=None: must be a mapping"),
    (["base.pretrain.recipe.seed=a"], "base.pretrain.recipe.seed=a: must be an integer from 0 to 4294967295"),
    (["grid=dynamics", "seeds=[0]"], "seeds=[0]: an arm replays the runs of other seeds; choose 1 as well"),
    (["grid=dynamics", "seeds=[3]"], "seeds=[3]: an arm replays the runs of other seeds; choose 0, 1, 2 as well"),
    (["grid.arms=null"], "grid.arms=None: has no arms; give at least one under grid.arms"),
    (["grid.arms.dla=null"], "grid.arms.dla=None: must be a mapping"),
    (["grid.arms.dla.set=null"], "grid.arms.dla.set=None: must be a mapping"),
    (["grid.baseline=x"], "grid.baseline=x: unknown arm; valid: baseline, dla, dsl, both"),
    (["grid.name=a/b"], "grid.name=a/b: must be a plain name: letters, digits"),
    (
        ["+grid.arms.pretrain={title: x, set: {}}"],
        "grid.arms.pretrain=x: 'pretrain' is the name of the pretraining; choose another",
    ),
    (
        ["++grid.arms.dla.set={optim_wrapper.optimiser.lr: 1}"],
        "unknown setting 'optim_wrapper.optimiser.lr' in grid.arms.dla ('optimiser' does not exist); valid: clip",
    ),
    (["++grid.arms.dla.set={train.max_iters: -3}"], "base.train.max_iters=-3: must be an integer of at least 1"),
    (["cluster.slots=0"], "cluster.slots=0: must be an integer from 1 to 1024, or null"),
    (["cluster.threads=x"], "cluster.threads=x: must be an integer from 1 to 1024, or null"),
    (
        ["cluster=local", "cluster.slotz=1"],
        "unknown setting 'slotz' in cluster (did you mean 'slots'?); valid: executor, name, processes, slots, threads",
    ),
    (["cluster.processes=0"], "cluster.processes=0: must be an integer from 1 to 1024, or null"),
    (
        ["cluster=slurm", "cluster.acount=x", "cluster.timee=3"],
        "cluster.acount=x cluster.timee=3: unknown settings 'acount' (did you mean 'account'?), 'timee' (did you mean "
        "'time'?) in cluster; valid: account, constraint",
    ),
    (
        ["cluster=slurm", "cluster.retries.kiled=3"],
        "unknown setting 'kiled' in cluster.retries (did you mean 'killed'?)",
    ),
    (["cluster=slurm", "cluster.time=soon"], "cluster.time=soon: must be minutes, an integer of at least 1, or text"),
    (["cluster=slurm", "cluster.sbatch={time: 3}"], "cluster.sbatch.time=3: set cluster.time instead"),
    (["cluster=slurm", "cluster.executor=moon"], "cluster.executor=moon: must be local or slurm"),
    (
        ["cluster=slurm", "cluster.nodes=2"],
        "cluster.nodes=2: the base's 1 processes cannot be divided among",
    ),
    (["cluster=local", "action=script"], "action=script: cluster=local has no batch script; give cluster=slurm"),
    (
        ["base.train.processes=2"],
        "base.train.processes=2: is set by the cluster; give cluster.processes with",
    ),
    (
        ["cluster=local", "cluster.processes=3"],
        "base.train.groups=1: cannot be divided among 3 processes; use 1, or other groups",
    ),
    (
        ["cluster=local", "cluster.processes=2", "base.train.groups=2", "++grid.arms.dla.set={train.groups: 3}"],
        "base.train.groups=3: cannot be divided among 2 processes; use 1 or 3",
    ),
    (["++grid.arms.dla.set={train.processes: 2}"], "an arm cannot set train.processes, which the cluster sets"),
    (["json=maybe"], "json=maybe: must be true or false"),
    (
        ["json=true", "watch=true"],
        "watch=true: cannot be combined with json=true, which prints one document and ends; give one of the two",
    ),
    (["lines=0"], "lines=0: must be an integer of at least 1"),
    (["run=3"], "run=3: must be a run such as both/seed1"),
    (
        ["action=logs", "run=dla/sed0"],
        "run=dla/sed0: this grid has no such run; valid names are, for example, dla/seed0",
    ),
    (["dataset.name=../up"], "dataset.name=../up: must be a plain name: letters, digits"),
    (
        ["dataset.root=/nowhere"],
        "dataset.root=/nowhere: does not contain COCO 2017 (annotations/instances_train2017.json",
    ),
    (["dataset=shapes", "dataset.recipe.train_images=0"], "dataset.recipe.train_images=0: must be an integer from 1"),
    (["dataset=shapes", "dataset.recipe.tran_images=9"], "unknown setting 'tran_images' in dataset.recipe"),
    (["dataset=coco_format"], "dataset.root, dataset.train_ann, dataset.val_ann: must be given"),
    (["dataset=coco_format", "dataset.rot=/x"], "unknown setting 'rot' in dataset (did you mean 'root'?)"),
    (
        ["dataset=coco", "dataset.root=/nowhere"],
        "dataset.root=/nowhere: does not contain COCO 2017 (annotations/instances_tr",
    ),
    (
        ["dataset=coco"],
        "dataset=coco: $COCO_ROOT and data/coco do not contain COCO 2017 (annotations/instances_train2017.json",
    ),
    (
        ["dataset=shapes", "dataset.name=coco"],
        "dataset.name=coco: is only for COCO 2017, dataset=coco; choose another name",
    ),
    (["dataset=coco_format", "dataset.root=null", *PATHS], "dataset.root=None: must be a folder"),
    (["dataset.name=my data"], "dataset.name=my data: must be a plain name: letters, digits"),
    (["dataset.name=x.grid.json"], "dataset.name=x.grid.json: must be a plain name: letters, digits"),
    (["grid.name=_x"], "grid.name=_x: must be a plain name: letters, digits"),
    (["+grid.arms._x={title: x, set: {}}"], "grid.arms._x=_x: must be a plain name: letters, digits"),
    (["~grid.name"], "grid.name: must be given"),
    (["~grid.title"], "grid.title: must be given"),
    (["~grid"], "~grid: grid cannot be removed, only changed; give grid=VALUE"),
    (["grid.title=3"], "grid.title=3: must be text"),
    (
        ["+grid.sedes=[1]"],
        "unknown setting 'sedes' in grid (did you mean 'seeds'?); valid: arms, base_for, baseline",
    ),
    (
        ["grid.cost.shapes=fast"],
        "grid.cost.shapes=fast: must be a positive number of seconds per iteration, or map arms to such numbers",
    ),
    (
        ["grid.cost=fast"],
        "grid.cost=fast: must be a mapping, or null",
    ),
    (["grid.paper=3"], "grid.paper=3: must be a mapping"),
    (["grid.paper.table=2"], "grid.paper.table=2: must be text"),
    (["grid.paper.rows=null"], "grid.paper.rows=None: must be a mapping"),
    (["grid.paper.rows.dla.AP=high"], "must map metrics to numbers in percent"),
    (
        ["arms=[dsl]", "++grid.arms.dla.set={train.max_itres: 3}"],
        "unknown setting 'train.max_itres' in grid.arms.dla ('max_itres' does not exist); valid: checkpoint_interval",
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCO_ROOT", str(tmp_path / "no coco"))
    monkeypatch.delattr(local, "launch")  # or an input that is accepted by mistake would train for minutes
    if not any(argument.startswith("runs=") for argument in arguments):
        arguments = [f"runs={tmp_path / 'runs'}", *arguments]
    assert launch.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("error: ") and expected in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["grid=nope"], ["seeds=[x]"], ["--multirun", "grid=smoke"], ["arms=[nope]"]])
def test_the_command_exits_with_code_2_and_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*LAUNCH, "runs=runs", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def coco_arguments(root: Path, *more: str) -> list[str]:
    paths = [f"dataset.{key}={value}" for key, value in LAYOUT.items()]
    return ["dataset=coco_format", f"dataset.root={root}", *paths, f"runs={root.parent / 'runs'}", *more]


def test_a_data_set_in_coco_format_is_planned(tmp_path: Path, capsys: Any) -> None:
    write_coco(tmp_path / "data")
    before = listing(tmp_path)
    assert launch.main(coco_arguments(tmp_path / "data", "action=plan", "seeds=[0,1]")) == 0
    out = capsys.readouterr().out
    assert "8 runs (4 arms x 2 seeds): 8 new" in out
    assert listing(tmp_path) == before


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def broken(name: str, text: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text(text)


def edited(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda root: edit_json(root / LAYOUT["train_ann"], change)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (remove("ann/train.json"), "ann/train.json: no such file; dataset.train_ann must be an annotation file below"),
        (broken("ann/train.json", '{"images": ['), "ann/train.json: not JSON"),
        (broken("ann/val.json", '{"images": ['), "ann/val.json: not JSON"),
        (remove("img/train/1.png"), "file "),
        (edited(lambda c: c["annotations"][0].update(bbox=[1, 1, -4, 5])), "width and height must not be negative"),
        (edited(lambda c: c["annotations"][0].update(category_id=4)), "category_id 4 is not among the categories"),
    ],
)
def test_invalid_data_are_reported_before_anything_starts(
    damage: Callable[[Path], Any], expected: str, tmp_path: Path, capsys: Any
) -> None:
    write_coco(tmp_path / "data")
    damage(tmp_path / "data")
    before = listing(tmp_path)
    assert launch.main(coco_arguments(tmp_path / "data")) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and expected in captured.err
    assert "to go" not in captured.out
    assert listing(tmp_path) == before


def test_a_missing_data_root_is_reported(tmp_path: Path, capsys: Any) -> None:
    assert launch.main(coco_arguments(tmp_path / "nowhere")) == 2
    assert f"{tmp_path / 'nowhere'}: no such folder; dataset.root must be" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

"""From checked settings to the grid: one RunSpec for each arm and seed, and the run that all of them start from.

An arm is a small diff on the base: dotted paths and values. `set_for` has other values for a base at another scale.
A grid with `task: benchmark` has one run per seed, which times all arms side by side.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.batch import groups_per_process
from dynamic_rcnn.run.results import PRETRAIN
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, FINAL_VALUES, TRAIN, RunSpec
from experiments.config.annotations import coco_format_dataset
from experiments.config.foreign_base import is_foreign
from experiments.config.grid import Grid
from experiments.config.grid_schema import Replay, changes_of
from experiments.config.mmdet_config import box_losses
from experiments.config.overrides import changed_fields
from experiments.config.schema import Config, DatasetSettings, GridFile, pretraining_base, with_changes


def build_grid(config: Config) -> Grid:
    """The grid of a resolved configuration."""
    file, chosen = config.settings.grid, config.settings.chosen_arms
    dataset = _dataset(config.settings.dataset)
    shared = _run_config(config, {}, dataset, "base")
    configs = {
        name: _run_config(config, changes_of(file.arms, name, config.choices.base), dataset, f"grid.arms.{name}")
        for name in file.arms
    }
    for name in chosen if config.settings.task == TRAIN else ():
        _check_losses(configs[name]["model"], f"grid.arms.{name}")
    pretrain = _pretrain(config, dataset)
    init = {"run": pretrain.id, "setting": pretrain.setting, "part": "backbone"} if pretrain else config.weights
    shared_spec = RunSpec("", 0, dataset, shared, init, task=file.task)
    specs = _specs(file, shared_spec, configs)
    grid = Grid(
        name=file.name,
        title=file.title,
        task=file.task,
        baseline=file.baseline,
        baselines={name: arm.baseline for name, arm in file.arms.items() if arm.baseline is not None},
        arms={name: arm.title for name, arm in file.arms.items()},
        seeds=config.settings.chosen_seeds,
        specs=specs,
        runs=[],
        pretrain=pretrain,
        setting=shared_spec.setting,
        base=config.choices.base,
        changed=changed_fields(config),
        seconds={} if is_foreign(config.choices.base) else file.cost or {},
        paper=file.paper,
        contrasts=file.contrasts or [],
        factorial=file.factorial or {},
        equivalence=file.equivalence or [],
        seen_seeds=(file.seen_seeds or {}).get(dataset["name"], []),
    )
    grid = replace(grid, specs={name: grid.spec(name, 0) for name in specs})
    if file.task != BENCHMARK:
        return replace(grid, runs=[grid.spec(name, seed) for seed in grid.seeds for name in chosen])
    spec = _timing_run(file, shared, {name: configs[name]["model"] for name in chosen}, dataset)
    return _timing_grid(grid, spec, {name: arm.title for name, arm in chosen.items()})


def _timing_grid(grid: Grid, spec: RunSpec, timed_arms: dict[str, str]) -> Grid:
    """`grid` with `spec`, which times all arms, as its only run per seed."""
    return replace(
        grid,
        baseline=spec.arm,
        arms={spec.arm: grid.title},
        specs={spec.arm: spec},
        runs=[spec.with_seed(seed) for seed in grid.seeds],
        pretrain=None,
        setting=spec.setting,
        timed_arms=timed_arms,
    )


def _specs(file: GridFile, shared: RunSpec, configs: dict[str, dict[str, Any]]) -> dict[str, RunSpec]:
    """Each arm's run with seed 0. shared: the fields that all arms share. configs: configuration by arm."""
    specs: dict[str, RunSpec] = {}
    for name in sorted(configs, key=lambda name: file.arms[name].source is not None):  # arms with a source last
        arm, spec = file.arms[name], replace(shared, arm=name, config=configs[name])
        if arm.weights_of is not None:  # Grid.spec sets the run
            spec = replace(spec, task=EVALUATE, init={"run": "", "setting": specs[arm.weights_of].setting})
        specs[name] = _with_replay(spec, arm.replay, specs)
    return specs


def _timing_run(grid: GridFile, base: dict[str, Any], models: dict[str, Any], dataset: dict[str, Any]) -> RunSpec:
    """The run, with seed 0, that times the `models` of all arms as one group of the base trains them.

    The run has the grid's name and the base's data. Its learning rate is scaled to the group's share of the batch,
    and each of its iterations is a block.
    """
    assert grid.benchmark is not None
    settings, config = grid.benchmark.model_dump(), copy.deepcopy(base)
    training, inference = settings["training"], settings["inference"]
    training["arms"] = [arm for arm in training["arms"] if arm in models]
    blocks = training["rounds"] * len(training["arms"]) + inference["rounds"] * len(models)
    train, optimizer = config["train"], config["optim_wrapper"]["optimizer"]
    optimizer["lr"] /= train["groups"]
    train.update(groups=1, processes=1, max_iters=blocks, max_epochs=None)
    config |= {"arms": models, BENCHMARK: {"baseline": grid.baseline, **settings}}
    return RunSpec(grid.name, 0, dataset, config, task=BENCHMARK)


def _with_replay(spec: RunSpec, replay: Replay | None, specs: dict[str, RunSpec]) -> RunSpec:
    """`spec`, training with the T and beta of another arm; unchanged for None. `Grid.spec` sets the run."""
    if replay is None:
        return spec
    source = replay.arm
    losses = [box_losses(each.config["model"]) for each in (spec, specs[source])]
    if any(len(each) > 1 for each in losses):
        raise UserError(f"arm {spec.arm}: replays {source}, whose stages each have a T and beta: not supported")
    if losses != [["SmoothL1Loss"]] * 2:
        raise UserError(f"arm {spec.arm}: replays {source}, so both need a beta: loss_bbox of type SmoothL1Loss")
    method = spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    if method["label_assignment"] or method["smooth_l1"]:
        raise UserError(f"arm {spec.arm}: replays {source}, so label_assignment and smooth_l1 must be false")
    found: dict[str, Any] = {"run": "", "setting": specs[source].setting}
    found |= {"of_other_seed": True} if replay.of_other_seed else {}
    found |= {"values": replay.values} if replay.values != FINAL_VALUES else {}
    return replace(spec, replay=found)


def _check_losses(model: dict[str, Any], where: str) -> None:
    """Raise UserError if DSL is on where a box loss has no beta."""
    method = model["train_cfg"]["rcnn"]["dynamic_rcnn"]
    losses = box_losses(model)[: 1 if method.get("stages") == "first" else None]
    for loss in losses if method["smooth_l1"] else ():
        if loss != "SmoothL1Loss":
            raise UserError(
                f"{where}: dynamic_rcnn.smooth_l1=true: needs bbox_head.loss_bbox of type SmoothL1Loss, not {loss}; "
                "set it, or choose arms without DSL with arms=[...]"
            )


def _pretrain(config: Config, dataset: dict[str, Any]) -> RunSpec | None:
    settings, where = config.base.get(PRETRAIN), f"base.{PRETRAIN}"
    if settings is None or config.settings.task in (EVALUATE, BENCHMARK):
        return None
    root = dataset["root"] if "recipe" in dataset else None
    recipe = ShapesRecipe.from_dict(settings["recipe"], f"{where}.recipe")
    own = {**datasets.shapes(recipe, root), "name": dataset["name"]}
    changed = with_changes(pretraining_base(config.base), settings["set"], where)
    groups_per_process(changed["train"]["groups"], changed["train"]["processes"])
    changed["model"] = _with_classes(changed["model"], len(own["classes"]), where)
    return RunSpec(PRETRAIN, 0, own, changed, task=PRETRAIN)


def _run_config(config: Config, changes: dict[str, Any], dataset: dict[str, Any], where: str) -> dict[str, Any]:
    """The base with `changes` and the data set's number of classes, and a batch that the processes can share."""
    found = with_changes(config.base, changes, where)
    train = found["train"]
    if config.settings.task != EVALUATE:
        groups_per_process(train["groups"], train["processes"])
    return {**found, "model": _with_classes(found["model"], len(dataset["classes"]), where)}


def _with_classes(node: Any, count: int, where: str) -> Any:
    """A model with the number of classes of the data set wherever its base has null."""
    if isinstance(node, list):
        return [_with_classes(item, count, where) for item in node]
    if not isinstance(node, dict):
        return node
    given = node.get("num_classes")
    if given not in (None, count):
        raise UserError(f"{where}: num_classes={given}: the data set has {count} classes; set it to null")
    return {key: count if key == "num_classes" else _with_classes(item, count, where) for key, item in node.items()}


def _dataset(settings: DatasetSettings) -> dict[str, Any]:
    """The data set as a spec describes it: drawn from a recipe, or files in COCO format."""
    root = None if settings.root is None else Path(settings.root).resolve()
    if settings.recipe is not None:
        found = datasets.shapes(ShapesRecipe.from_dict(settings.recipe), None if root is None else str(root))
    else:
        assert root is not None
        found = coco_format_dataset(root, settings.paths)
    staged = {} if settings.stage is None else {"stage": settings.stage}
    return {**found, **staged, "name": settings.name}

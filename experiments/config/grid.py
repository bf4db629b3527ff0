"""From a settled configuration to the grid: one RunSpec for each arm and seed, and the run that all start from.

An arm is a small diff on the base: dotted paths and values, with `set_for` other ones for a base at another scale.
Every path must exist in the base.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dynamic_rcnn.data import dataset as datasets
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.manifest import NAME_RULE, is_plain_name
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TRAIN, RunSpec
from experiments.config.annotations import coco_format_dataset
from experiments.config.overrides import changed_fields
from experiments.config.schema import PRETRAIN, check_base, checked_seeds, checked_task, chosen_arms
from experiments.config.timing_grid import benchmark_spec, check_benchmark


@dataclass(frozen=True)
class Grid:
    """The runs that are to exist, and what the report needs to know of them.

    setting: ten hex digits over what all arms share. seconds: declared seconds an iteration, by data set, of all arms
    or by arm. baselines: of the arms that stand against another one than `baseline`.
    specs: each arm as it is now, with seed 0, also those that were not chosen for `runs`; `spec` has other seeds.
    task: of its runs, see RunSpec.
    base, changed: the base's name, and the fields that differ from the files (see origin.changed_fields).
    timed_arms: names and titles of the arms that the grid's only run times side by side; None for other tasks.
    """

    name: str
    title: str
    task: str
    baseline: str
    baselines: dict[str, str]
    arms: dict[str, str]
    seeds: list[int]
    specs: dict[str, RunSpec]
    runs: list[RunSpec]
    pretrain: RunSpec | None
    setting: str
    base: str
    changed: list[str]
    seconds: dict[str, Any]
    paper: dict[str, Any] | None
    contrasts: list[list[str]]
    seen_seeds: list[int]
    timed_arms: dict[str, str] | None = None

    def spec(self, arm: str, seed: int) -> RunSpec:
        """The run of an arm and seed."""
        return _seeded(self.specs, arm, seed)

    @property
    def all_runs(self) -> list[RunSpec]:
        return ([self.pretrain] if self.pretrain else []) + self.runs

    @property
    def has_masks(self) -> bool:
        """Whether any of its models learns masks, which the data must have then."""
        return any(spec.has_masks for spec in self.specs.values())

    @property
    def dataset(self) -> str:
        return str(self.runs[0].dataset["name"])


def build(config: DictConfig) -> Grid:
    """The grid of a settled configuration. Raises UserError for unknown arms, wrong seeds, paths that do not exist."""
    grid: dict[str, Any] = _plain(config.grid)
    base: dict[str, Any] = _plain(config.base)
    arms = chosen_arms(grid, _plain(config.arms))
    check_benchmark(grid)
    task = checked_task(grid)
    seeds = _seeds(grid, _plain(config.seeds), task)
    dataset = _dataset(_plain(config.dataset))
    pretrain = None if task == EVALUATE else _pretrain(base, dataset)
    init = {"run": pretrain.id} if pretrain else _plain(config.weights)
    chosen = config.choices.base
    configs = {
        name: _resolved(base, {**arm["set"], **arm.get("set_for", {}).get(chosen, {})}, dataset, f"arm {name}", task)
        for name, arm in grid["arms"].items()
    }
    specs: dict[str, RunSpec] = {}
    for name in sorted(configs, key=lambda name: "replay" in grid["arms"][name]):  # those that are replayed first
        spec = RunSpec(name, 0, dataset, configs[name], init, task=task)
        specs[name] = _replaying(spec, grid["arms"][name].get("replay"), specs, arms)
    shared = _resolved(base, {}, dataset, "base", task)
    found = Grid(
        name=grid["name"],
        title=grid["title"],
        task=task,
        baseline=grid["baseline"],
        baselines={name: arm["baseline"] for name, arm in grid["arms"].items() if "baseline" in arm},
        arms={name: arm["title"] for name, arm in grid["arms"].items()},
        seeds=seeds,
        specs=specs,
        runs=[_seeded(specs, name, seed) for seed in seeds for name in arms],
        pretrain=pretrain,
        setting=RunSpec("", 0, dataset, shared, init, task=task).setting,
        base=chosen,
        changed=changed_fields(_plain(config)),
        seconds=grid.get("cost") or {},
        paper=grid.get("paper"),
        contrasts=grid.get("contrasts") or [],
        seen_seeds=(grid.get("seen_seeds") or {}).get(dataset["name"], []),
    )
    if task != BENCHMARK:
        return found
    spec = benchmark_spec(grid, shared, {name: configs[name] for name in arms}, dataset)
    return _with_timing_run(found, spec, {name: arm["title"] for name, arm in arms.items()})


def _with_timing_run(grid: Grid, spec: RunSpec, timed_arms: dict[str, str]) -> Grid:
    """`grid` with one run per seed, `spec`, which times all arms, in place of one run per arm."""
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


def _replaying(spec: RunSpec, source: str | None, specs: dict[str, RunSpec], chosen: Iterable[str]) -> RunSpec:
    """`spec`, which trains with the final T and beta that arm `source` arrives at; as it is for None."""
    if source is None:
        return spec
    if spec.arm in chosen and source not in chosen:
        raise UserError(f"arms: {spec.arm} replays {source}, whose runs come first; choose {source} as well")
    losses = [each.config["model"]["roi_head"]["bbox_head"]["loss_bbox"]["type"] for each in (spec, specs[source])]
    if set(losses) != {"SmoothL1Loss"}:
        raise UserError(f"arm {spec.arm}: replays {source}, so both need a beta: loss_bbox of type SmoothL1Loss")
    method = spec.config["model"]["train_cfg"]["rcnn"]["dynamic_rcnn"]
    if method["label_assignment"] or method["smooth_l1"]:
        raise UserError(f"arm {spec.arm}: replays {source}, so label_assignment and smooth_l1 must be false")
    return replace(spec, replay={"run": specs[source].id, "setting": specs[source].setting})


def _seeded(specs: dict[str, RunSpec], arm: str, seed: int) -> RunSpec:
    """An arm's run of another seed; one that replays another run replays that of the same seed."""
    spec = specs[arm]
    if spec.replay is None:
        return spec.with_seed(seed)
    source = next(name for name, other in specs.items() if other.id == spec.replay["run"])
    return replace(spec, seed=seed, replay={**spec.replay, "run": specs[source].with_seed(seed).id})


def _pretrain(base: dict[str, Any], dataset: dict[str, Any]) -> RunSpec | None:
    settings = base.get("pretrain")
    if settings is None:
        return None
    if not isinstance(settings, dict) or set(settings) != {"seed", "set"} or not isinstance(settings["set"], dict):
        raise UserError(f"base.pretrain={settings}: must have a seed and, under 'set', what it changes in the base")
    (seed,) = checked_seeds([settings["seed"]], "base.pretrain.seed")
    return RunSpec(PRETRAIN, seed, dataset, _resolved(base, settings["set"], dataset, "base.pretrain"))


def _seeds(grid: dict[str, Any], chosen: Any, task: str) -> list[int]:
    if task != EVALUATE:
        return checked_seeds(grid.get("seeds") if chosen is None else chosen)
    if chosen is not None:
        raise UserError(f"seeds={chosen}: grid={grid['name']} evaluates given weights, once an arm; leave seeds= out")
    return [0]


def _resolved(
    base: dict[str, Any], changes: dict[str, Any], dataset: dict[str, Any], where: str, task: str = TRAIN
) -> dict[str, Any]:
    """The base with `changes` and the number of classes; checked."""
    config = copy.deepcopy({key: value for key, value in base.items() if key != "pretrain"})
    check_base(config, task)
    _fill_classes(config["model"], len(dataset["classes"]), "base")
    for path, value in changes.items():
        _set(config, path, copy.deepcopy(value), where)
    check_base(config, task)
    _fill_classes(config["model"], len(dataset["classes"]), where)
    return config


def _set(config: dict[str, Any], path: str, value: Any, where: str) -> None:
    *parents, last = path.split(".")
    node: Any = config
    for part in parents:
        node = node[_existing(node, part, path, where)]
    node[_existing(node, last, path, where)] = value


def _existing(node: Any, part: str, path: str, where: str) -> str:
    if not isinstance(node, dict) or part not in node:
        valid = node if isinstance(node, dict) else ()
        raise unknown_name("setting", [path], valid, f"{where} ({part!r} does not exist)")
    return part


def _fill_classes(node: Any, count: int, where: str) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "num_classes" and value not in (None, count):
                raise UserError(f"{where}: num_classes={value}: the data set has {count} classes; leave it null")
            if key == "num_classes":
                node[key] = count
            _fill_classes(value, count, where)
    elif isinstance(node, list):
        for item in node:
            _fill_classes(item, count, where)


def _dataset(settings: dict[str, Any]) -> dict[str, Any]:
    name, root = settings["name"], settings["root"]
    if not is_plain_name(name):
        raise UserError(f"dataset.name={name}: must be usable as the name of a folder: {NAME_RULE}")
    if "recipe" in settings and root is None:
        return {**datasets.shapes(ShapesRecipe.from_dict(settings["recipe"]), None), "name": name}
    if not isinstance(root, str) or not root:
        raise UserError(f"dataset.root={root}: must be a folder")
    if "recipe" in settings:
        recipe = ShapesRecipe.from_dict(settings["recipe"])
        return {**datasets.shapes(recipe, str(Path(root).resolve())), "name": name}
    for key in datasets.PATHS:
        if not isinstance(settings[key], str) or not settings[key]:
            raise UserError(f"dataset.{key}={settings[key]}: must be a path below dataset.root")
    paths = {key: settings[key] for key in datasets.PATHS}
    return {**coco_format_dataset(Path(root).resolve(), paths), "name": name}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

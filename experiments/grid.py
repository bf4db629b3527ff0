"""From a settled configuration to the grid: one RunSpec for each arm and seed, and the run that all start from.

An arm is a small diff on the base: dotted paths and values. Every path must exist in the base.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dynamic_rcnn import dataset as datasets
from dynamic_rcnn.data import coco_format
from dynamic_rcnn.data.shapes import ShapesRecipe
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.directory import GRID_SUFFIX, SCHEMA, write_json_atomic
from dynamic_rcnn.run.spec import RunSpec, find_run
from experiments.settings import PROJECT

PRETRAIN = "pretrain"
_COUNTS = ("max_iters", "max_epochs", "batch_size", "log_interval", "checkpoint_interval", "keep_checkpoints")


@dataclass(frozen=True)
class Grid:
    """The runs that are to exist, and what the report needs to know of them."""

    name: str
    title: str
    baseline: str
    arms: dict[str, str]
    seeds: list[int]
    runs: list[RunSpec]
    pretrain: RunSpec | None
    setting: str
    seconds: dict[str, float]
    paper: dict[str, Any] | None

    @property
    def all_runs(self) -> list[RunSpec]:
        return ([self.pretrain] if self.pretrain else []) + self.runs

    @property
    def dataset(self) -> str:
        return str(self.runs[0].dataset["name"])

    def manifest_path(self, runs: Path) -> Path:
        return runs / self.dataset / f"{self.name}-{self.setting}{GRID_SUFFIX}"

    def write_manifest(self, runs: Path, known: list[dict[str, Any]]) -> None:
        """Write what this launch asked for, beside what earlier launches of the same setting did (`known`)."""
        asked = [
            {"arm": spec.arm, "seed": spec.seed, "path": str(find_run(runs, spec).relative_to(runs))}
            for spec in self.runs
        ]
        kept = [run for run in known if (run["arm"], run["seed"]) not in {(r["arm"], r["seed"]) for r in asked}]
        order = {arm: number for number, arm in enumerate(self.arms)}
        both = sorted(kept + asked, key=lambda run: (order.get(run["arm"], len(order)), run["seed"]))
        content = {
            "schema": SCHEMA,
            "grid": self.name,
            "title": self.title,
            "setting": self.setting,
            "dataset": self.dataset,
            "baseline": self.baseline,
            "arms": self.arms,
            "seeds": sorted({run["seed"] for run in both}),
            "runs": both,
            "paper": self.paper,
        }
        write_json_atomic(self.manifest_path(runs), content)


def build(config: DictConfig) -> Grid:
    """The grid of a settled configuration. Raises UserError for unknown arms, wrong seeds, paths that do not exist."""
    grid: dict[str, Any] = _plain(config.grid)
    base: dict[str, Any] = _plain(config.base)
    arms = _chosen_arms(grid, config.arms)
    seeds = _checked_seeds(grid["seeds"] if config.seeds is None else _plain(config.seeds))
    dataset = _dataset(config.dataset)
    pretrain = _pretrain(base, dataset)
    init = {"run": pretrain.id} if pretrain else None
    plain = _resolved(base, {}, dataset, "base")
    runs = [
        RunSpec(name, seed, dataset, _resolved(base, arm["set"], dataset, f"arm {name}"), init)
        for seed in seeds
        for name, arm in arms.items()
    ]
    return Grid(
        name=grid["name"],
        title=grid["title"],
        baseline=grid["baseline"],
        arms={name: arm["title"] for name, arm in grid["arms"].items()},
        seeds=seeds,
        runs=runs,
        pretrain=pretrain,
        setting=RunSpec("", 0, dataset, plain, init).setting,
        seconds=grid.get("cost") or {},
        paper=grid.get("paper"),
    )


def _chosen_arms(grid: dict[str, Any], chosen: Any) -> dict[str, Any]:
    arms = grid.get("arms") or {}
    if not arms:
        raise UserError(f"grid {grid['name']}: has no arms; give at least one under grid.arms")
    if grid["baseline"] not in arms:
        raise unknown_name("baseline", [grid["baseline"]], arms, f"grid {grid['name']}")
    if chosen is None:
        return dict(arms)
    names = _plain(chosen)
    if not isinstance(names, list) or not names:
        raise UserError(f"arms={names}: must be a list with at least one of {', '.join(arms)}")
    unknown = [name for name in names if name not in arms]
    if unknown:
        raise unknown_name("arm", unknown, arms, f"grid {grid['name']}")
    return {name: arms[name] for name in arms if name in names}


def _checked_seeds(seeds: Any) -> list[int]:
    if not isinstance(seeds, list) or not seeds:
        raise UserError(f"seeds={seeds}: must be a list with at least one seed, e.g. seeds=[0,1,2]")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise UserError(f"seeds: {seed!r} is not an integer from 0 to 2147483647; e.g. seeds=[0,1,2]")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds}: a seed is given twice")
    return seeds


def _pretrain(base: dict[str, Any], dataset: dict[str, Any]) -> RunSpec | None:
    settings = base.get("pretrain")
    if not settings:
        return None
    config = _resolved(base, settings["set"], dataset, "base.pretrain")
    return RunSpec(PRETRAIN, _checked_seeds([settings["seed"]])[0], dataset, config)


def _resolved(base: dict[str, Any], changes: dict[str, Any], dataset: dict[str, Any], where: str) -> dict[str, Any]:
    """The base with `changes` and the number of classes; checked."""
    config = copy.deepcopy({key: value for key, value in base.items() if key != "pretrain"})
    for path, value in changes.items():
        _set(config, path, value, where)
    _fill_classes(config["model"], len(dataset["classes"]))
    _check_train(config["train"])
    return config


def _set(config: dict[str, Any], path: str, value: Any, where: str) -> None:
    *parents, last = path.split(".")
    node: Any = config
    for part in [*parents, last]:
        if not isinstance(node, dict) or part not in node:
            valid = node if isinstance(node, dict) else ()
            raise unknown_name("setting", [path], valid, f"{where} ({part!r} does not exist)")
        if part is last:
            node[part] = value
        node = node[part]


def _fill_classes(node: Any, count: int) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "num_classes" and value is None:
                node[key] = count
            _fill_classes(value, count)
    elif isinstance(node, list):
        for item in node:
            _fill_classes(item, count)


def _check_train(train: dict[str, Any]) -> None:
    for name in _COUNTS:
        value = train[name]
        optional = name in ("max_iters", "max_epochs") and value is None
        if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"base.train.{name}={value}: must be an integer of at least 1")
    if (train["max_iters"] is None) == (train["max_epochs"] is None):
        raise UserError("base.train: give one of max_iters and max_epochs, and null for the other")
    for name in ("workers", "val_interval"):
        if isinstance(train[name], bool) or not isinstance(train[name], int) or train[name] < 0:
            raise UserError(f"base.train.{name}={train[name]}: must be an integer of at least 0")


def _dataset(settings: DictConfig) -> dict[str, Any]:
    missing = sorted(str(key) for key in OmegaConf.missing_keys(settings))
    if missing:
        raise UserError(f"dataset={settings.name}: {', '.join('dataset.' + key for key in missing)} must be given")
    name = str(settings.name)
    if "/" in name or name.startswith("."):
        raise UserError(f"dataset.name={name}: must be usable as the name of a folder")
    if "recipe" in settings:
        recipe = ShapesRecipe.from_dict(_plain(settings.recipe))
        root = None if settings.root is None else str(Path(settings.root).resolve())
        return {**datasets.shapes(recipe, root), "name": name}
    root = settings.root or os.environ.get("COCO_ROOT") or str(PROJECT / "data" / "coco")
    paths = {key: str(settings[key]) for key in ("train_ann", "val_ann", "train_img", "val_img")}
    found = datasets.coco_format_dataset(Path(root).resolve(), paths)
    return {"name": name, **found}


def validate_data(grid: Grid) -> None:
    """Look at every annotation and image name before anything starts; shapes are checked when they are drawn."""
    dataset = grid.runs[0].dataset
    if "recipe" not in dataset:
        coco_format.validate(Path(dataset["root"]), *(dataset[key] for key in datasets.PATHS))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

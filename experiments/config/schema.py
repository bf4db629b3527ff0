"""The schema of a composed configuration: what the command line and the grid files may contain."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.manifest import PlainName
from dynamic_rcnn.run.results import PRETRAIN
from dynamic_rcnn.run.schema import BrokenRulesError, Fault, Schema, faults, similar_hint, validate
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TRAIN
from dynamic_rcnn.run.values import Count
from experiments.config.base_schema import Folder, LocalCount, RunConfig, RunName, Seeds, TimedConfig
from experiments.config.grid import other_seed
from experiments.config.grid_schema import Arm, GridFile, changes_of

if TYPE_CHECKING:
    from slurm.site_profile import Profile

LOCAL, SLURM = "local", "slurm"  # executors
_ONLY_WITH = {
    "rerun": ("launch",),
    "watch": ("status",),
    "json_output": ("plan", "status"),
    "run": ("logs",),
    "lines": ("logs",),
}  # setting -> the actions on which it has an effect
_DATA_PATHS = ("train_ann", "val_ann", "train_img", "val_img")


class LocalCluster(Schema):
    """cluster=local: how many runs and processes share this machine."""

    name: str
    executor: str
    processes: LocalCount | None
    slots: LocalCount | None
    threads: LocalCount | None


Cluster = Annotated[
    Annotated[LocalCluster, Tag("[local]")] | Annotated[dict[str, Any], Tag("[slurm]")],  # see slurm.site_profile
    Discriminator(lambda v: "[local]" if isinstance(v, dict) and v.get("executor") == LOCAL else "[slurm]"),
]


class DatasetSettings(Schema):
    """`dataset`: drawn from a recipe, or files in COCO format."""

    name: PlainName
    root: str | None
    stage: str | None = None
    recipe: dict[str, Any] | None = None
    train_ann: str | None = None
    val_ann: str | None = None
    train_img: str | None = None
    val_img: str | None = None

    @model_validator(mode="after")
    def _check_paths(self) -> DatasetSettings:
        broken: list[Fault] = []
        if self.root == "" or (self.root is None and self.recipe is None):
            broken.append((("root",), self.root, "must be a folder"))
        if self.stage is not None and not self.stage.startswith(("/", "$")):
            broken.append((("stage",), self.stage, "must be an absolute path, or begin with a variable of the node"))
        missing = [name for name in _DATA_PATHS if self.recipe is None and not getattr(self, name)]
        broken += [((name,), getattr(self, name), "must be a path below dataset.root") for name in missing]
        if broken:
            raise BrokenRulesError(broken)
        return self

    @property
    def paths(self) -> dict[str, str]:
        """The files and folders of a data set in COCO format, relative to root."""
        return {name: getattr(self, name) for name in _DATA_PATHS}


class Settings(Schema):
    """Every setting of a launch, after the command line is applied to the files."""

    action: Literal["launch", "plan", "doctor", "status", "logs", "cancel", "why", "script", "advise"]
    seeds: Seeds | None
    arms: list[str] | None
    weights: str | None
    runs: Folder | None
    rerun: Literal["none", "stale"]
    decode: Literal["auto", "all"]
    watch: bool
    json_output: bool = Field(alias="json")
    run: RunName | None
    lines: Count
    base: dict[str, Any]
    dataset: DatasetSettings
    cluster: Cluster
    grid: GridFile

    @property
    def task(self) -> str:
        return self.grid.task

    @property
    def chosen_arms(self) -> dict[str, Arm]:
        """The arms to run, in the grid's order."""
        return {name: arm for name, arm in self.grid.arms.items() if self.arms is None or name in self.arms}

    @property
    def chosen_seeds(self) -> list[int]:
        """The seeds to run. A grid that evaluates given weights has one."""
        return [0] if self.task == EVALUATE else list(self.seeds or self.grid.seeds or [])

    def without_effect(self, defaults: dict[str, Any]) -> list[str]:
        """A line for each given setting that has no effect on this launch. defaults: the default of every setting."""
        staged = self.dataset.stage if self.task != TRAIN else None
        reason = f"has no effect, because grid={self.grid.name} does not train"
        return [f"dataset.stage={staged}: {reason}"] * (staged is not None) + [
            f"{name}={value}: has no effect with action={self.action}, only with {' and '.join(actions)}"
            for name, actions in _ONLY_WITH.items()
            if self.action not in actions and (value := getattr(self, name)) != defaults[name.removesuffix("_output")]
        ]

    @model_validator(mode="after")
    def _check_choices(self) -> Settings:
        broken = [*self._arm_faults(), *self._seed_faults()]
        if isinstance(self.cluster, dict) and self.cluster.get("executor") != SLURM:
            broken.append((("cluster", "executor"), self.cluster.get("executor"), "must be local or slurm"))
        if self.json_output and self.watch:
            rule = "cannot be combined with json=true, which prints one document and ends; give one of the two"
            broken.append((("watch",), "true", rule))
        if self.task != EVALUATE and self.weights is not None:
            rule = f"grid={self.grid.name} trains its runs; only a grid with task: evaluate takes weights"
            broken.append((("weights",), self.weights, rule))
        if broken:
            raise BrokenRulesError(broken)
        return self

    def _arm_faults(self) -> Iterator[Fault]:
        valid = ", ".join(self.grid.arms)
        if self.arms == []:
            yield ("arms",), self.arms, f"must be a list with at least one of {valid}"
        if len(set(self.arms or [])) < len(self.arms or []):
            yield ("arms",), self.arms, "must be different arms"
        for name in (name for name in self.arms or [] if name not in self.grid.arms):
            yield ("arms",), name, f"unknown arm{similar_hint(name, list(self.grid.arms))}; valid: {valid}"
        for name, arm in self.chosen_arms.items():
            if arm.source is not None and arm.source not in self.chosen_arms:
                verb = "replays" if arm.replay else "evaluates"
                yield ("arms",), name, f"{verb} {arm.source}, whose runs come first; choose {arm.source} as well"
        if self.task == BENCHMARK and self.arms and self.grid.baseline not in self.arms:
            yield (
                ("arms",),
                self.arms,
                f"must contain {self.grid.baseline}, the baseline of all arms",
            )

    def _seed_faults(self) -> Iterator[Fault]:
        if self.task == EVALUATE and self.seeds is not None:
            rule = f"grid={self.grid.name} evaluates given weights, once per arm; leave seeds= out"
            yield ("seeds",), self.seeds, rule
        if any(arm.replay is not None and arm.replay.of_other_seed for arm in self.chosen_arms.values()):
            needed = set(self.chosen_seeds)
            while not needed >= (others := set(map(other_seed, needed))):
                needed |= others
            if missing := sorted(needed - set(self.chosen_seeds)):
                rule = f"an arm replays the runs of other seeds; choose {', '.join(map(str, missing))} as well"
                yield ("seeds",), self.chosen_seeds, rule
        if not self.chosen_seeds:
            yield ("seeds",), self.seeds, "must be a list with at least one seed, e.g. seeds=[0,1,2]"


@dataclass(frozen=True)
class Choices:
    """The chosen file of each group, with a line about the data set and the cluster if `auto` chose them."""

    base: str
    dataset: str
    cluster: str
    grid: str
    dataset_line: str | None = None
    cluster_line: str | None = None


@dataclass(frozen=True)
class Config:
    """A checked configuration with nothing left open.

    Attributes:
        base: content of the base, for the processes that the cluster gives a run.
        cluster: this machine's slots, or what a job asks Slurm for.
        weights: file and sha256 of the weights that runs evaluate; None if they train.
        runs: the run folder.
    """

    settings: Settings
    choices: Choices
    base: dict[str, Any]
    cluster: LocalCluster | Profile
    weights: dict[str, str] | None
    runs: Path

    @property
    def profile(self) -> Profile | None:
        """What jobs ask Slurm for; None on this machine."""
        return None if isinstance(self.cluster, LocalCluster) else self.cluster


def check(content: dict[str, Any], base: str) -> Settings:
    """Check a composed configuration, and what each arm makes of the base of that name. Names all faults at once."""
    broken, settings = list[str](), None
    try:
        settings = validate(Settings, content)
    except UserError as error:
        broken.append(str(error))
    grid, composed = content.get("grid"), content.get("base")
    if isinstance(grid, dict) and isinstance(composed, dict):
        kind = TimedConfig if grid.get("task") == BENCHMARK else RunConfig
        in_base = [*faults(kind, composed, "base"), *_text_numbers(composed, "base")]
        broken += in_base or [
            fault for each in _changes(grid, composed, base) for fault in _change_faults(kind, composed, *each)
        ]
        if not in_base and composed.get(PRETRAIN) is not None:
            changed = pretraining_base(composed), f"base.{PRETRAIN}", composed[PRETRAIN]["set"]
            broken += _change_faults(TimedConfig, *changed)
    if broken or settings is None:
        raise UserError("; ".join(broken))
    return settings


def _changes(grid: dict[str, Any], composed: dict[str, Any], base: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each arm or pretraining, with its changes to the base (dotted path -> value). Skips arms that are not valid."""
    given = grid.get("arms")
    items = given.items() if isinstance(given, dict) else ()
    arms = {name: Arm.model_validate(arm) for name, arm in items if not faults(Arm, arm)}
    for name in arms:
        yield f"grid.arms.{name}", changes_of(arms, name, base)


def _change_faults(kind: type[TimedConfig], base: dict[str, Any], where: str, changes: dict[str, Any]) -> list[str]:
    try:
        return [*faults(kind, with_changes(base, changes, where), f"{where}: base"), *_text_numbers(changes, where)]
    except UserError as error:
        return [str(error)]


def _text_numbers(value: Any, where: str) -> list[str]:
    """A fault for each number given as text, such as '1e-4' in quotes, which mmdet would take for a name."""
    if isinstance(value, str):
        text = f"{where}={value!r}: must be a number, not text; remove the quotes"
        return [text] if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", value, re.IGNORECASE) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [fault for key, item in items for fault in _text_numbers(item, f"{where}.{key}")]


def pretraining_base(base: dict[str, Any]) -> dict[str, Any]:
    """What the changes of a pretraining apply to: the base with the model that is pretrained."""
    shared = {name: base["model"][name] for name in ("backbone", "data_preprocessor")}
    return {**base, "model": {**base[PRETRAIN]["model"], **copy.deepcopy(shared)}}


def with_changes(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """The base without its pretraining, with the values of `changes` (dotted path -> value). Shares the rest.

    Raises UserError for a path that does not exist in the base. where: the field that makes the changes.
    """
    config = {key: value for key, value in base.items() if key != PRETRAIN}
    for path, value in changes.items():
        node: Any = config
        *parents, last = path.split(".")
        for part in [*parents, last]:
            if not isinstance(node, dict) or part not in node:
                valid = node if isinstance(node, dict) else ()
                raise unknown_name("setting", [path], valid, f"{where} ({part!r} does not exist)")
            if part is not last:
                node[part] = copy.copy(node[part])  # mappings without a change stay shared with the base
                node = node[part]
        node[last] = copy.deepcopy(value)
    return config

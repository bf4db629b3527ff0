"""The schema of a composed configuration: what the command line and the grid files may contain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.manifest import Contrasts, Paper, PlainName, contrast_faults
from dynamic_rcnn.run.schema import BrokenRulesError, Schema, close, faults, validate
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE
from experiments.config.overrides import BASES

if TYPE_CHECKING:
    from slurm.site_profile import Profile

LOCAL, SLURM = "local", "slurm"  # executors
PRETRAIN = "pretrain"
_TRAINING_FIELDS = ("seeds", "cost", "contrasts", "seen_seeds")  # of grids whose runs train
_DATA_PATHS = ("train_ann", "val_ann", "train_img", "val_img")

Fault = tuple[tuple[str | int, ...], Any, str]  # place, value, rule


def _is_integer(value: Any, least: int, most: float = inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


def _rule(rule: str, holds: Callable[[Any], object]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(rule)
        return value

    return BeforeValidator(check)


def _at_least(least: int) -> BeforeValidator:
    return _rule(f"must be an integer of at least {least}", lambda value: _is_integer(value, least))


def _base_name(name: str) -> str:
    valid = sorted(path.stem for path in BASES.glob("*.yaml"))
    if name not in valid:
        raise ValueError(f"unknown base{close(name, valid)}; valid: {', '.join(valid)}")
    return name


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Count = Annotated[int, _at_least(1)]
CountFromZero = Annotated[int, _at_least(0)]
Rounds = Annotated[int, _at_least(2)]
Fraction = Annotated[float, _rule("must be above 0 and at most 1", lambda value: _is_positive(value) and value <= 1)]
Positive = Annotated[float, _rule("must be a positive number", _is_positive)]
Folder = Annotated[str, _rule("must be a folder", lambda value: isinstance(value, str) and value)]
RunName = Annotated[str, _rule("must be a run such as both/seed1", lambda value: isinstance(value, str) and value)]
Seed = Annotated[int, _rule("must be an integer from 0 to 2147483647", lambda value: _is_integer(value, 0, 2**31 - 1))]
Seeds = Annotated[
    list[Seed],
    AfterValidator(_distinct),
    _rule("must be a list with at least one seed, e.g. seeds=[0,1,2]", lambda seeds: isinstance(seeds, list) and seeds),
]
BaseName = Annotated[str, AfterValidator(_base_name)]
Cost = Annotated[
    Any,
    _rule(
        "must be seconds per iteration, a positive number, or map arms to theirs",
        lambda cost: all(map(_is_positive, cost.values())) if isinstance(cost, dict) else _is_positive(cost),
    ),
]


class _Open(Schema):
    """Other fields, which mmdet checks, are allowed."""

    model_config = ConfigDict(extra="allow")


class TrainSection(Schema):
    """base.train: how long and how a run trains, and what it records."""

    max_iters: Count | None
    max_epochs: Count | None
    batch_size: Count
    processes: Count
    log_interval: Count
    checkpoint_interval: Count
    keep_checkpoints: Count
    workers: CountFromZero
    val_interval: CountFromZero
    group_by_aspect_ratio: bool

    @model_validator(mode="after")
    def _check_length(self) -> TrainSection:
        if (self.max_iters is None) == (self.max_epochs is None):
            rule = f"max_epochs={self.max_epochs}; give one of the two, and null for the other"
            raise BrokenRulesError([(("max_iters",), self.max_iters, rule)])
        return self


class DynamicRCNN(Schema):
    """The method's constants and switches, model.train_cfg.rcnn.dynamic_rcnn."""

    label_assignment: bool
    smooth_l1: bool
    all_reduce: bool
    iou_topk: Count
    beta_topk: Count
    update_iter_interval: Count
    initial_iou: Fraction
    initial_beta: Fraction


class _RCNN(_Open):
    dynamic_rcnn: DynamicRCNN


class _TrainCfg(_Open):
    rcnn: _RCNN


class _Model(_Open):
    train_cfg: _TrainCfg


class _Optimizer(_Open):
    lr: Positive


class _OptimWrapper(_Open):
    optimizer: _Optimizer


class Pretrain(Schema):
    """The shared pretraining: a run of the base with changes."""

    seed: Seed
    changes: dict[str, Any] = Field(alias="set")


class TimedConfig(Schema):
    """What a timing run builds: a base with an arm's changes. The model may be any detector."""

    model: dict[str, Any]
    data: dict[str, Any]
    train: TrainSection
    optim_wrapper: _OptimWrapper
    param_scheduler: list[Any]
    pretrain: Pretrain | None = None


class RunConfig(TimedConfig):
    """What a run trains or evaluates: a base with an arm's changes."""

    model: _Model  # type: ignore[assignment]


class Arm(Schema):
    """An arm: what it changes in the base, with other changes for some bases."""

    title: str
    changes: dict[str, Any] = Field(alias="set")
    changes_for: dict[BaseName, dict[str, Any]] = Field(default_factory=dict, alias="set_for")
    replay: str | None = None
    baseline: str | None = None

    def changes_to(self, base: str) -> dict[str, Any]:
        """Dotted path -> value of what the arm changes in the base of that name."""
        return {**self.changes, **self.changes_for.get(base, {})}

    @property
    def paths(self) -> list[str]:
        return [path for changes in (self.changes, *self.changes_for.values()) for path in changes]


class BenchmarkTraining(Schema):
    """What is timed in training, and how often."""

    arms: list[str]
    warmup: Count
    rounds: Rounds
    iterations: Count


class BenchmarkInference(Schema):
    """What is timed at inference, and how often."""

    warmup: Count
    rounds: Rounds
    images: Count


class Benchmark(Schema):
    """How a grid with `task: benchmark` times its arms."""

    training: BenchmarkTraining
    inference: BenchmarkInference


class GridFile(Schema):
    """The field `grid` of a grid file."""

    name: PlainName
    title: str
    task: Literal["train", "evaluate", "benchmark"] = "train"
    baseline: str
    arms: Annotated[
        dict[PlainName, Arm],
        _rule("has no arms; give at least one under grid.arms", lambda v: v is not None and v != {}),
    ]
    seeds: Seeds | None = None
    cost: dict[str, Cost] | None = None
    paper: Paper | None = None
    contrasts: Contrasts | None = None
    seen_seeds: dict[str, list[int]] | None = None
    base_for: dict[BaseName, BaseName] | None = None
    benchmark: Benchmark | None = None

    @model_validator(mode="after")
    def _check_arms(self) -> GridFile:
        found = [
            *contrast_faults(self.contrasts or [], self.arms),
            *self._name_faults(),
            *self._task_faults(),
            *(self._benchmark_faults(self.benchmark) if self.benchmark else ()),
        ]
        if found:
            raise BrokenRulesError(found)
        return self

    def _name_faults(self) -> Iterator[Fault]:
        """Arms that name arms, and settings that an arm cannot change."""
        valid = f"valid: {', '.join(self.arms)}"
        if self.baseline not in self.arms:
            yield ("baseline",), self.baseline, f"unknown arm; {valid}"
        replayable = [name for name, arm in self.arms.items() if arm.replay is None]
        for name, arm in self.arms.items():
            place = ("arms", name)
            if name == PRETRAIN:
                yield place, arm.title, f"{PRETRAIN!r} is the name of the shared pretraining; choose another"
            if arm.replay is not None and arm.replay not in replayable:
                yield (*place, "replay"), arm.replay, f"unknown arm; valid: {', '.join(replayable)}"
            if arm.baseline is not None and arm.baseline not in self.arms:
                yield (*place, "baseline"), arm.baseline, f"unknown arm; {valid}"
            elif arm.baseline is not None and self.arms[arm.baseline].baseline is not None:
                yield (*place, "baseline"), arm.baseline, "has a baseline itself; name an arm that has none"
            if {"train", "train.processes"} & set(arm.paths):
                yield place, arm.title, "an arm cannot set train.processes, which the cluster sets; name other settings"
        for dataset, cost in (self.cost or {}).items():
            for arm in (each for each in (cost if isinstance(cost, dict) else ()) if each not in self.arms):
                yield ("cost", dataset, arm), cost[arm], f"unknown arm; {valid}"

    def _task_faults(self) -> Iterator[Fault]:
        """Fields that do not belong to the grid's task."""
        if (self.benchmark is not None) != (self.task == BENCHMARK):
            given = self.benchmark and self.benchmark.model_dump()
            yield (BENCHMARK,), given, f"belongs to grid.task=benchmark; the task is {self.task}"
        if self.task == EVALUATE:
            for field in _TRAINING_FIELDS:
                if getattr(self, field) is not None:
                    yield (field,), getattr(self, field), "a grid with task: evaluate trains nothing; leave it out"
            for name, arm in self.arms.items():
                if arm.replay is not None:
                    rule = "a grid with task: evaluate trains nothing; leave it out"
                    yield ("arms", name, "replay"), arm.replay, rule

    def _benchmark_faults(self, benchmark: Benchmark) -> Iterator[Fault]:
        place, trained = (BENCHMARK, "training", "arms"), benchmark.training.arms
        if self.baseline not in trained:
            yield place, trained, f"must be a list with the baseline {self.baseline}"
        for arm in (each for each in trained if each not in self.arms):
            yield place, arm, f"unknown arm; valid: {', '.join(self.arms)}"
        if self.contrasts:
            yield ("contrasts",), self.contrasts, _ALL_TIMED
        for name, content in self.arms.items():
            for field in ("baseline", "replay"):
                if getattr(content, field) is not None:
                    yield ("arms", name, field), getattr(content, field), _ALL_TIMED
            for path in (each for each in content.paths if each.split(".")[0] != "model"):
                rule = "all arms are timed on the same data and schedule; set only model.*"
                yield ("arms", name, "set"), path, rule


_ALL_TIMED = "a grid with task: benchmark has none, all arms are timed against its baseline"


class LocalCluster(Schema):
    """cluster=local: how many runs and processes share this machine."""

    name: str
    executor: str
    processes: Count | None
    slots: Count | None
    threads: Count | None


Cluster = Annotated[
    Annotated[LocalCluster, Tag("[local]")] | Annotated[dict[str, Any], Tag("[slurm]")],  # see slurm.site_profile
    Discriminator(lambda v: "[local]" if isinstance(v, dict) and v.get("executor") == LOCAL else "[slurm]"),
]


class DatasetSettings(Schema):
    """`dataset`: drawn from a recipe, or files in COCO format."""

    name: PlainName
    root: str | None
    recipe: dict[str, Any] | None = None
    train_ann: str | None = None
    val_ann: str | None = None
    train_img: str | None = None
    val_img: str | None = None

    @model_validator(mode="after")
    def _check_paths(self) -> DatasetSettings:
        found: list[Fault] = []
        if self.root == "" or (self.root is None and self.recipe is None):
            found.append((("root",), self.root, "must be a folder"))
        missing = [name for name in _DATA_PATHS if self.recipe is None and not getattr(self, name)]
        found += [((name,), getattr(self, name), "must be a path below dataset.root") for name in missing]
        if found:
            raise BrokenRulesError(found)
        return self

    @property
    def paths(self) -> dict[str, str]:
        """The files and folders of a data set in COCO format, relative to root."""
        return {name: getattr(self, name) for name in _DATA_PATHS}


class Settings(Schema):
    """Every setting of a launch, after the command line is applied to the files."""

    action: Literal["launch", "plan", "doctor", "status", "logs", "cancel", "why", "script"]
    seeds: Seeds | None
    arms: list[str] | None
    weights: str | None
    runs: Folder | None
    rerun: Literal["none", "stale"]
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
        """The seeds to run; what evaluates given weights has one."""
        return [0] if self.task == EVALUATE else list(self.seeds or self.grid.seeds or [])

    @model_validator(mode="after")
    def _check_choices(self) -> Settings:
        found = [*self._arm_faults(), *self._seed_faults()]
        if isinstance(self.cluster, dict) and self.cluster.get("executor") != SLURM:
            found.append((("cluster", "executor"), self.cluster.get("executor"), "must be local or slurm"))
        if self.json_output and self.watch:
            rule = "cannot be combined with json=true, which prints one document and ends; give one of the two"
            found.append((("watch",), "true", rule))
        if self.task != EVALUATE and self.weights is not None:
            rule = f"grid={self.grid.name} trains its runs; only a grid with task: evaluate takes weights"
            found.append((("weights",), self.weights, rule))
        if found:
            raise BrokenRulesError(found)
        return self

    def _arm_faults(self) -> Iterator[Fault]:
        valid = ", ".join(self.grid.arms)
        if self.arms == []:
            yield ("arms",), self.arms, f"must be a list with at least one of {valid}"
        for arm in (each for each in self.arms or [] if each not in self.grid.arms):
            yield ("arms",), arm, f"unknown arm{close(arm, list(self.grid.arms))}; valid: {valid}"
        for name, each in self.chosen_arms.items():
            if each.replay is not None and each.replay not in self.chosen_arms:
                yield ("arms",), name, f"replays {each.replay}, whose runs come first; choose {each.replay} as well"
        if self.task == BENCHMARK and self.arms and self.grid.baseline not in self.arms:
            yield ("arms",), self.arms, f"must have the baseline {self.grid.baseline}, which all are compared with"

    def _seed_faults(self) -> Iterator[Fault]:
        if self.task == EVALUATE and self.seeds is not None:
            rule = f"grid={self.grid.name} evaluates given weights, once per arm; leave seeds= out"
            yield ("seeds",), self.seeds, rule
        if not self.chosen_seeds:
            yield ("seeds",), self.seeds, "must be a list with at least one seed, e.g. seeds=[0,1,2]"


@dataclass(frozen=True)
class Choices:
    """The file of each group; a line on the data set and the cluster where they were left open."""

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
        settings: as composed and checked.
        choices: the file of each group.
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
    """Check a composed configuration, and the configuration that each arm makes of the base.

    Args:
        content: the configuration, with plain values.
        base: the name of the base that was chosen.

    Returns:
        The settings.

    Raises:
        UserError: one line that names every fault.
    """
    settings = validate(Settings, content)
    kind = TimedConfig if settings.task == BENCHMARK else RunConfig
    found = faults(kind, settings.base, "base")
    if not found:
        changes = {f"grid.arms.{name}": arm.changes_to(base) for name, arm in settings.grid.arms.items()}
        if settings.base.get(PRETRAIN) is not None:
            changes[f"base.{PRETRAIN}"] = settings.base[PRETRAIN]["set"]
        for where, changed in changes.items():
            found += _faults_of_changes(kind, settings.base, changed, where)
    if found:
        raise UserError("; ".join(found))
    return settings


def _faults_of_changes(kind: Any, base: dict[str, Any], changes: dict[str, Any], where: str) -> list[str]:
    try:
        return faults(kind, with_changes(base, changes, where), f"{where}: base")
    except UserError as error:
        return [str(error)]


def with_changes(base: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """A copy of the base with other values, without its pretraining.

    Args:
        base: the content of a base.
        changes: dotted path -> value.
        where: what makes the changes, for the message.

    Raises:
        UserError: a path does not exist in the base.
    """
    config = copy.deepcopy({key: value for key, value in base.items() if key != PRETRAIN})
    for path, value in changes.items():
        *parents, last = path.split(".")
        node: Any = config
        for part in parents:
            node = node[_existing(node, part, path, where)]
        node[_existing(node, last, path, where)] = copy.deepcopy(value)
    return config


def _existing(node: Any, part: str, path: str, where: str) -> str:
    if not isinstance(node, dict) or part not in node:
        valid = node if isinstance(node, dict) else ()
        raise unknown_name("setting", [path], valid, f"{where} ({part!r} does not exist)")
    return part

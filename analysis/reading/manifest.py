"""A grid manifest (`<grid>-<setting>.grid.json`): what a launch asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.directory import GRID_SUFFIX, read_json
from dynamic_rcnn.run.manifest import NAME_RULE, contrasts_fault, is_plain_name, is_seed, manifest_place, paper_fault
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TASKS, TRAIN


@dataclass(frozen=True)
class Cell:
    """One run that a grid asks for; `path` is its directory relative to the runs folder.

    setting: the digest of all but the seed, as the launch recorded it; None in older manifests.
    """

    arm: str
    seed: int
    path: str
    setting: str | None = None


@dataclass(frozen=True)
class Paper:
    """The rows of the paper that a grid reproduces: arm -> metric -> value in percent, as printed.

    weights: how the sha256 of the weights begins that the rows are of, where they are of published ones.
    test_dev: numbers on COCO test-dev, which cannot be scored offline. base: of the published setting.
    """

    table: str
    source: str
    dataset: str
    rows: dict[str, dict[str, float]]
    weights: str | None = None
    test_dev: dict[str, dict[str, float]] = field(default_factory=dict)
    base: str = "faster_rcnn_r50_fpn_1x"


@dataclass(frozen=True)
class Grid:
    """What a launch asked for. `arms` maps name to title in table order; `baseline` is one of them.

    baselines: of the arms that stand against another one than `baseline`.
    base, changed: the base's name, and the fields that differ from its, the data set's and the grid's file; None in
    older manifests. contrasts: pairs of arms to compare with each other, besides all with the baseline.
    seen_seeds: those whose results were in sight when settings were chosen.
    task: what its runs do. weights: name and sha256 of the file that they evaluate, if they do that.
    timed_arms: names and titles of the arms that the only run times side by side; None for other tasks.
    """

    name: str
    title: str
    setting: str
    dataset: str
    baseline: str
    arms: dict[str, str]
    seeds: list[int]
    cells: list[Cell]
    paper: Paper | None
    base: str | None = None
    changed: list[str] | None = None
    contrasts: tuple[tuple[str, str], ...] = ()
    seen_seeds: tuple[int, ...] = ()
    task: str = TRAIN
    weights: dict[str, str] | None = None
    timed_arms: dict[str, str] | None = None
    baselines: dict[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        return self.task == TRAIN

    def baseline_of(self, arm: str) -> str:
        """The arm that this one stands against."""
        return self.baselines.get(arm, self.baseline)

    @property
    def key(self) -> str:
        """Unique among manifests; used in file names."""
        return f"{self.dataset}-{self.name}-{self.setting}"

    @property
    def manifest(self) -> str:
        """Its manifest's path relative to the runs folder."""
        return manifest_place(self.dataset, self.name, self.setting)


def find_manifests(runs: Path) -> list[Path]:
    """All manifests below `runs`, in an order that does not depend on the file system."""
    return sorted(runs.glob(f"*/*{GRID_SUFFIX}"))


def read_grid(path: Path) -> Grid:
    """The manifest at `path`. Raises UserError if it is corrupt, foreign or newer."""
    value = read_json(path)
    texts = {name: _field(path, value, name, str) for name in ("grid", "title", "setting", "dataset", "baseline")}
    for name in ("grid", "setting", "dataset"):
        if not is_plain_name(texts[name]):
            raise UserError(f"{path}: field '{name}' is {texts[name]!r}; it must be a plain name: {NAME_RULE}")
    place = manifest_place(texts["dataset"], texts["grid"], texts["setting"])
    if f"{path.parent.name}/{path.name}" != place:
        raise UserError(f"{path}: holds the manifest of {place}; move it there")
    arms = _field(path, value, "arms", dict)
    if texts["baseline"] not in arms:
        raise UserError(f"{path}: field 'baseline' is {texts['baseline']!r}; it must be one of {', '.join(arms)}")
    baselines = _optional(path, value, "baselines", dict) or {}
    for arm in (*baselines, *baselines.values()):
        if not isinstance(arm, str) or arm not in arms or baselines.get(arm) == arm:
            rule = f"each must be one of {', '.join(arms)}, and none its own baseline"
            raise UserError(f"{path}: field 'baselines' has {arm!r}; {rule}")
    cells = [_cell(path, item, arms) for item in _field(path, value, "runs", list)]
    keys = Counter((cell.arm, key) for cell in cells for key in (f"seed {cell.seed}", cell.path))
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise UserError(f"{path}: field 'runs' has arm {twice[0][0]}, {twice[0][1]} more than once")
    return Grid(
        name=texts["grid"],
        title=texts["title"],
        setting=texts["setting"],
        dataset=texts["dataset"],
        baseline=texts["baseline"],
        arms={str(name): str(title) for name, title in arms.items()},
        seeds=sorted({cell.seed for cell in cells}),
        cells=cells,
        paper=_paper(path, value.get("paper")),
        base=_optional(path, value, "base", str),
        changed=_optional(path, value, "changed", list),
        contrasts=_contrasts(path, value.get("contrasts"), arms),
        seen_seeds=_seen_seeds(path, value.get("seen_seeds", [])),
        **_task(path, value),
        baselines=baselines,
    )


def choose(grids: list[Grid], names: list[str]) -> list[Grid]:
    """The grids with one of `names` (all without names). Raises UserError for a name that no grid has."""
    valid = {name for grid in grids for name in (grid.name, f"{grid.name}-{grid.setting}")}
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise unknown_name("grid", unknown, valid)
    return [grid for grid in grids if not names or {grid.name, f"{grid.name}-{grid.setting}"} & set(names)]


def is_run_path(text: str) -> bool:
    """Whether `text` is dataset/arm/run, all plain names: a manifest cannot point outside its runs folder."""
    parts = text.split("/")
    return len(parts) == 3 and all(map(is_plain_name, parts))


def _cell(path: Path, item: Any, arms: dict[str, Any]) -> Cell:
    if not isinstance(item, dict):
        raise UserError(f"{path}: field 'runs' holds {item!r}; each must have arm, seed and path")
    arm, seed, where = item.get("arm"), item.get("seed"), item.get("path")
    if not isinstance(arm, str) or arm not in arms:
        raise UserError(f"{path}: a run's arm is {arm!r}; it must be one of {', '.join(arms)}")
    if not is_seed(seed):
        raise UserError(f"{path}: a run's seed is {seed!r}; it must be an integer")
    if not isinstance(where, str) or not is_run_path(where):
        raise UserError(f"{path}: a run's path is {where!r}; it must be <dataset>/<arm>/seed<k>-<id>")
    return Cell(arm, seed, where, _optional(path, item, "setting", str))


def _contrasts(path: Path, value: Any, arms: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    fault = contrasts_fault(value, arms)
    if fault is not None:
        raise UserError(f"{path}: field 'contrasts' is {value!r}; it {fault}")
    return tuple((arm, other) for arm, other in value or ())


def _seen_seeds(path: Path, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(map(is_seed, value)):
        raise UserError(f"{path}: field 'seen_seeds' is {value!r}; it must be a list of seeds")
    return tuple(value)


def _paper(path: Path, value: Any) -> Paper | None:
    if value is None:
        return None
    fault = paper_fault(value)
    if fault is not None:
        raise UserError(f"{path}: field '{fault[0]}' is {fault[1]!r}; it {fault[2]}")
    names = ("table", "source", "dataset", "rows", "weights", "test_dev", "base")
    return Paper(**{name: value[name] for name in names if name in value})


def _task(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """task, weights and timed_arms; older manifests have none of them: their runs train."""
    task, weights = value.get("task", TRAIN), value.get("weights")
    if task not in TASKS:
        raise UserError(f"{path}: field 'task' is {task!r}: made by a newer version; update this one")
    if task == EVALUATE:
        found = [weights.get(key) for key in ("name", "sha256")] if isinstance(weights, dict) else []
        if not found or not all(isinstance(text, str) for text in found):
            raise UserError(f"{path}: field 'weights' is {weights!r}; it must have the file's name and sha256")
    timed_arms = _optional(path, value, "timed_arms", dict)
    if (task == BENCHMARK) != (timed_arms is not None):
        raise UserError(
            f"{path}: field 'timed_arms' is {timed_arms!r} where 'task' is {task!r}; only {BENCHMARK!r} has it"
        )
    return {"task": task, "weights": weights, "timed_arms": timed_arms}


def _optional(path: Path, value: dict[str, Any], name: str, kind: type) -> Any:
    return None if value.get(name) is None else _field(path, value, name, kind)


def _field(path: Path, value: dict[str, Any], name: str, kind: type) -> Any:
    found = value.get(name)
    if not isinstance(found, kind):
        rule = {"str": "text", "dict": "an object", "list": "a list"}[kind.__name__]
        raise UserError(f"{path}: field '{name}' is {found!r}; it must be {rule}")
    return found

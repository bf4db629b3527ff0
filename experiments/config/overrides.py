"""Where a launch differs from the configuration files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from dynamic_rcnn.run.spec import RunSpec, differences, flatten
from experiments.config.conf_files import load, load_base
from experiments.config.schema import Config

_NOT_COUNTED = ("dataset.name", "dataset.root")
_ARM_FIELDS = ("set", "set_for", "replay", "weights_of", "baseline")


def changed_fields(config: Config) -> list[str]:
    """The dotted fields that change results and differ from the chosen files.

    Every field of the base counts; of the data set those that its file has, except its name and root; of the grid its
    name, task, baseline and bases, and the arms of its file.
    """
    choices, settings = config.choices, config.settings
    specs = (RunSpec("", 0, {}, content, task=settings.task) for content in (load_base(choices.base), config.base))
    fields = [field.replace("config.", "base.", 1) for field, _, _ in differences(*specs)]
    dataset = load(f"dataset/{choices.dataset}").get("dataset", {})
    now = settings.model_dump(include={"dataset", "grid"}, by_alias=True, exclude_unset=True)
    pairs = [(flatten(dataset, "dataset"), flatten(now["dataset"], "dataset"))]
    pairs += [(_grid_fields(_grid_file(choices.grid, config.base)), _grid_fields(now["grid"]))]
    for file, given in pairs:
        changed = (field for field in file if field not in given or given[field] != file[field])
        fields += [field for field in changed if field not in _NOT_COUNTED]
    return fields


def describe_overruled(config: Config, changed: Sequence[str]) -> list[str]:
    """A line for each changed field of the base that has no effect on some arms, because they set it themselves.

    An arm's setting that refers to the base (`${base...}`) changes with it and is not reported.
    """
    fields = [field for field in changed if field.startswith("base.")]
    if not fields:
        return []
    base, lines = config.choices.base, []
    before, now = (
        _grid_file(config.choices.grid, content).get("arms", {}) for content in (load_base(base), config.base)
    )
    own: dict[str, list[str]] = {}
    for name, arm in config.settings.chosen_arms.items():
        old, new = (_changes(arms.get(name, {}), base) for arms in (before, now))
        own[name] = [path for path in arm.changes_to(base) if old.get(path) == new.get(path)]
    for field in fields:
        path = field.removeprefix("base.")
        arms = [name for name, paths in own.items() if any(f"{path}.".startswith(f"{each}.") for each in paths)]
        if arms:
            lines.append(f"{field}: has no effect on {', '.join(arms)}, which set it themselves")
    return lines


def _grid_file(name: str, base: dict[str, Any]) -> dict[str, Any]:
    """The field `grid` of a grid's file, with what it takes from the base filled in."""
    given: dict[str, Any] = load(f"grid/{name}").get("grid", {})
    if "${" not in str(given):  # most have nothing to fill in, and OmegaConf takes a second for hundreds of arms
        return given
    resolved = OmegaConf.to_container(OmegaConf.create({"base": base, "grid": given}), resolve=True)
    return dict(resolved["grid"])  # type: ignore[index, call-overload, arg-type]


def _changes(arm: dict[str, Any], base: str) -> dict[str, Any]:
    """Dotted path -> value of what an arm of a file changes in a base."""
    return {**arm.get("set", {}), **arm.get("set_for", {}).get(base, {})}


def _grid_fields(grid: dict[str, Any]) -> dict[str, Any]:
    arms = {
        f"grid.arms.{name}.{field}": arm[field]
        for name, arm in grid.get("arms", {}).items()
        for field in _ARM_FIELDS
        if field in arm
    }
    return {f"grid.{key}": grid[key] for key in ("name", "task", "baseline", "base_for") if key in grid} | arms

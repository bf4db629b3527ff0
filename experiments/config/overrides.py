"""From which files a settled configuration comes, and where it differs from them: what is run as it is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dynamic_rcnn.run.spec import TRAIN, RunSpec, differences, flatten

CONF = Path(__file__).resolve().parents[1] / "conf"
BASES = CONF.parents[1] / "dynamic_rcnn" / "configs" / "base"
_PLACE = ("dataset.name", "dataset.root")


def changed_fields(config: dict[str, Any]) -> list[str]:
    """The dotted fields that change results and differ from the files that `config["choices"]` names.

    Of the base every field counts; of the data set those that its file gives, but for where it lies; of the grid its
    name, its baseline, and the arms that its file gives.
    """
    choices = config["choices"]
    task = config["grid"].get("task", TRAIN)  # where nothing is trained, how it would be does not count
    file = load_base(choices["base"])
    base = differences(*(RunSpec("", 0, {}, content, task=task) for content in (file, config["base"])))
    fields = [field.replace("config.", "base.", 1) for field, _, _ in base]
    dataset = load(CONF / "dataset" / f"{choices['dataset']}.yaml").get("dataset", {})
    grid = _grid_file(choices["grid"], config["base"])
    pairs = [(flatten(dataset, "dataset"), flatten(config["dataset"], "dataset"))]
    pairs += [(_grid_fields(grid), _grid_fields(config["grid"]))]
    for file, now in pairs:
        fields += [field for field in file if field not in _PLACE and (field not in now or now[field] != file[field])]
    return fields


def overruled(config: dict[str, Any], changed: Sequence[str]) -> list[str]:
    """A line for each changed field of the base that some arms set themselves: it does not reach them.

    It reaches settings that the grid's file takes from the base.
    """
    fields = [field for field in changed if field.startswith("base.")]
    if not fields:
        return []
    choices, arms, lines = config["choices"], config["grid"]["arms"], []
    bases = (load_base(choices["base"]), config["base"])
    files = [_grid_file(choices["grid"], base).get("arms", {}) for base in bases]
    own: dict[str, list[str]] = {}
    for name in config["arms"] or arms:
        given, old, new = (_settings(each.get(name, {}), choices["base"]) for each in (arms, *files))
        own[name] = [path for path in given if old.get(path) == new.get(path)]
    for field in fields:
        path = field.removeprefix("base.")
        overriding = [
            name for name in arms if any(path == each or path.startswith(f"{each}.") for each in own.get(name, []))
        ]
        if overriding:
            lines.append(f"{field}: has no effect on {', '.join(overriding)}, which set it themselves")
    return lines


def _settings(arm: dict[str, Any], base: str) -> dict[str, Any]:
    """What an arm sets on a base: path -> value."""
    return {**arm.get("set", {}), **arm.get("set_for", {}).get(base, {})}


def load(path: Path) -> dict[str, Any]:
    """A configuration file as it is."""
    return dict(OmegaConf.to_container(OmegaConf.load(path)))  # type: ignore[arg-type]


def _grid_file(name: str, base: dict[str, Any]) -> dict[str, Any]:
    """`grid` in a grid's file, with what it takes from the base filled in."""
    given = load(CONF / "grid" / f"{name}.yaml").get("grid", {})
    resolved = OmegaConf.to_container(OmegaConf.create({"base": base, "grid": given}), resolve=True)
    return dict(resolved["grid"])  # type: ignore[index, call-overload, arg-type]


def load_base(name: str) -> dict[str, Any]:
    """A base as its file has it: the base that its `defaults` name, if any, with what it changes there."""
    return dict(OmegaConf.to_container(_merged_base(name)))  # type: ignore[arg-type]


def _merged_base(name: str) -> DictConfig:
    own = OmegaConf.load(BASES / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    parents = [_merged_base(parent) for parent in own.pop("defaults", []) if parent != "_self_"]
    merged = OmegaConf.merge(*parents, own)
    assert isinstance(merged, DictConfig)
    return merged


def _grid_fields(grid: dict[str, Any]) -> dict[str, Any]:
    arms = {
        f"grid.arms.{name}.{field}": arm[field]
        for name, arm in grid.get("arms", {}).items()
        for field in ("set", "set_for", "replay", "baseline")
        if field in arm
    }
    own = {f"grid.{key}": grid[key] for key in ("name", "task", "baseline", "base_for") if key in grid}
    return {**own, **arms}

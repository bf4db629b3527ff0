"""The configuration files: bases, clusters, data sets and grids, as they are on disk."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import similar_hint
from experiments.config.foreign_base import TEMPLATE, find_config, is_foreign, resolve_foreign

CONF = Path(__file__).resolve().parents[1] / "conf"
BASES = CONF.parents[1] / "dynamic_rcnn" / "configs" / "base"
PACKAGE = "# @package _global_"  # the first line of the files of these groups, which set more than their own group
_DELETE = "_delete_"  # as in mmdet's configs
_GLOBAL_GROUPS = ("dataset", "grid")
_KEY_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("int", "float", "bool", "null")}
_INTEGER_TRAP = re.compile(r"[-+]?(0[0-9_]+|.*:.*)")  # octal (012), or base 60 (12:30:00)


class _Loader(yaml.CSafeLoader, get_yaml_loader()):  # type: ignore[misc]  # the base class is created by a function
    """YAML as OmegaConf reads it, parsed by libyaml. Refuses keys that are not text, and octal and base-60 numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if key.tag in _KEY_TAGS:
                self._refuse(key, f"the key {key.value} is read as {_KEY_TAGS[key.tag]}, not as text")
        return dict(super().construct_mapping(node, deep))

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = int(super().construct_yaml_int(node))
        if _INTEGER_TRAP.fullmatch(node.value):
            self._refuse(node, f"{node.value} is read as the number {value}")
        return value

    def _refuse(self, node: yaml.ScalarNode, problem: str) -> None:
        raise yaml.MarkedYAMLError(problem=f"{problem}; write '{node.value}' in quotes", problem_mark=node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def names_of(group: str) -> list[str]:
    """The valid choices of a group of files: base, cluster, dataset or grid."""
    return sorted(path.stem for path in file_of(group).glob("*.yaml"))


def file_of(name: str) -> Path:
    """The file of a configuration such as "grid/ablation", without its suffix .yaml; the folder of a group."""
    group, _, rest = name.partition("/")
    if group == "base" and is_foreign(rest):
        return find_config(rest)
    path = BASES / rest if group == "base" else CONF / name
    return path.with_name(f"{path.name}.yaml") if rest or group == "config" else path


@cache
def load(name: str) -> dict[str, Any]:
    """The content of a configuration such as "grid/ablation", unresolved; of a foreign base, what its config becomes.

    Do not modify the result: it is cached.

    Raises:
        UserError: the file cannot be read or is not YAML, with line and column, or Hydra would lose its settings.
    """
    path = file_of(name)
    group, _, rest = name.partition("/")
    if group == "base" and is_foreign(rest):
        return resolve_foreign(rest, path, load_base(TEMPLATE))
    try:
        text = path.read_text("utf-8")
        content = yaml.load(text, Loader=_Loader) or {}
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{path}: {where}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of settings, such as name: value")
    _check_form(name, path, text, content)
    return content


def _check_form(name: str, path: Path, text: str, content: dict[str, Any]) -> None:
    """Refuse what makes Hydra lose the settings of a file or put them elsewhere."""
    if text.startswith("\ufeff"):
        raise UserError(f"{path}: begins with a byte order mark; save it as UTF-8 without one")
    if name.split("/")[0] in _GLOBAL_GROUPS and not re.match(rf"\s*{PACKAGE}\s", text):
        raise UserError(f"{path}: its first line must be {PACKAGE!r}, or its settings are put in the wrong place")
    defaults = content.get("defaults", [])
    if not isinstance(defaults, list):
        raise UserError(f"{path}: defaults={defaults}: must be a list, such as [slurm, _self_]")
    names = [entry for entry in defaults if isinstance(entry, str)]
    group = name.split("/")[0]
    for each in names:
        if re.fullmatch(r"\w+", each) and each != "_self_" and not file_of(f"{group}/{each}").is_file():
            hint, valid = similar_hint(each, names_of(group)), ", ".join(names_of(group))
            raise UserError(f"{path}: defaults: {group}={each}: unknown {group}{hint}; valid: {valid}")
    if "_self_" in names and names[-1] != "_self_":
        raise UserError(
            f"{path}: defaults={defaults}: _self_ must come last, or {names[-1]}.yaml replaces this file's settings"
        )


@cache
def load_base(name: str) -> dict[str, Any]:
    """A base as its file has it: the bases in its `defaults`, with its values merged into them. Do not modify it."""
    content = dict(load(f"base/{name}"))
    merged: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        if parent != "_self_":
            merged = merge(merged, load_base(parent))
    return merge(merged, content)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Merge `change` into a copy of `base`, recursively. Lists are replaced, and mappings by one with `_delete_`."""
    merged = {**base, **change}
    for key in base.keys() & change.keys():
        if isinstance(base[key], dict) and isinstance(change[key], dict):
            kept = {} if change[key].get(_DELETE) else base[key]
            merged[key] = merge(kept, {name: value for name, value in change[key].items() if name != _DELETE})
        elif change[key] == "???":  # OmegaConf's mark for a missing value: keep that of `base`
            merged[key] = base[key]
    return merged


def expand_home(path: str) -> str:
    """A path with its leading `~` replaced, or unchanged for a user without a home."""
    return os.path.expanduser(path)  # noqa: PTH111  # Path.expanduser raises RuntimeError then

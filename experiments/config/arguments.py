"""The command line's name=value arguments: parsed, and applied to the composed configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Transformer, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import similar_hint
from experiments.config.conf_files import names_of
from experiments.config.foreign_base import VALID, find_config, is_foreign

GROUPS = ("base", "cluster", "dataset", "grid")
_LISTS = ("seeds", "arms")
PATHS = ("runs", "weights", *(f"dataset.{name}" for name in ("root", "train_ann", "val_ann", "train_img", "val_img")))
PROCESSES = "base.train.processes"
BY_CLUSTER = "cluster.processes with cluster=local, cluster.nodes and cluster.gpus_per_node with cluster=slurm"


def parse(arguments: Sequence[str]) -> list[Override]:
    """Parse the arguments with Hydra's grammar. Raises UserError if one does not have the form name=value."""
    return [_parse(item) for item in arguments]


def _parse(item: str) -> Override:
    name, equals, value = item.partition("=")
    field = name.lstrip("+~")
    if not equals and not item.startswith("~"):
        raise UserError(f"{item!r}: an argument has the form name=value, e.g. grid=ablation action=plan")
    if item.startswith("~") and "." not in field:
        setting = field.partition("=")[0]
        raise UserError(f"{item}: {setting} cannot be removed, only changed; give {setting}=VALUE, or leave it out")
    if name == "base" and is_foreign(value):
        find_config(value)
        return _unquoted(name, value, item)
    if name in GROUPS:
        _check_choice(name, value)
    if field == PROCESSES:
        raise UserError(f"{item}: is set by the cluster; give {BY_CLUSTER}")
    if re.match(r"hydra\b", field):
        raise UserError(f"{item}: settings of Hydra have no effect on the launcher; remove it")
    try:
        override = OverridesParser.create().parse_override(item)
    except HydraException as error:
        if name in PATHS:
            return _unquoted(name, value, item)
        quoted = f"\"{name}='...'\""
        raise UserError(
            f"{item}: cannot be read ({str(error).splitlines()[0]}); close brackets and quotes; text with special "
            f"characters needs two pairs of quotes: {quoted}"
        ) from None
    if name in PATHS and override.is_sweep_override():  # the value contains a comma
        return _unquoted(name, value, item)
    return _as_list(override) if name in _LISTS else override


def _check_choice(group: str, value: str) -> None:
    valid = [*names_of(group), *([VALID] if group == "base" else [])]
    if value in ("", "null") or value[0] in "[{" or "," in value:
        raise UserError(f"{group}={value}: must be one name; valid: {', '.join(valid)}")
    if value not in valid:
        raise UserError(f"{group}={value}: unknown {group}{similar_hint(value, valid)}; valid: {', '.join(valid)}")


def _unquoted(name: str, value: str, item: str) -> Override:
    """The argument with an unquoted value that Hydra's grammar does not allow, as paths often are."""
    return Override(OverrideType.CHANGE, name, ValueType.ELEMENT, value, input_line=item)


def _as_list(override: Override) -> Override:
    """Convert seeds=0,1 and seeds=range(2), which Hydra reads as sweeps, to lists, and arms=both to a list of one."""
    content = override.value()
    if override.is_sweep_override():
        value = list(override.sweep_iterator(Transformer.identity))
    elif override.key_or_group == "arms" and isinstance(content, str):
        value = [content]
    else:
        return override
    return replace(override, value_type=ValueType.ELEMENT, _value=value)


def hydra_message(error: Exception) -> str:
    """An error of Hydra in one line, without hints for programmers. For an unknown choice, lists the valid ones."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip()).split(" See https://hydra.cc")[0]
    group = re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", text)
    if group is None:
        return text
    valid = names_of(group[1])
    return f"{group[1]}={group[2]}: unknown {group[1]}{similar_hint(group[2], valid)}; valid: {', '.join(valid)}"


def chooses_file(override: Override) -> bool:
    """Whether an argument chooses a file of a group; the others set values."""
    return override.key_or_group in GROUPS


def value_of(overrides: Sequence[Override], field: str) -> Any:
    """The value that the arguments give a field; None if they do not."""
    values = [each.value() for each in overrides if each.key_or_group == field]
    return OmegaConf.create({"value": values[-1]}).value if values else None


def apply(overrides: Sequence[Override], config: DictConfig) -> None:
    """Set the values in `config`. Raises UserError that names all unknown settings at once, with the valid ones."""
    failed: list[tuple[str, str]] = []
    for override in overrides:
        try:
            _apply(override, config)
        except (OmegaConfBaseException, KeyError, TypeError, ValueError) as error:
            failed.append((str(override.input_line), hydra_message(error)))
    if failed:
        lines = _unknown_settings([item for item, _ in failed], OmegaConf.to_container(config))
        raise UserError("; ".join(lines) or "; ".join(f"{item}: {text}" for item, text in failed))


def _apply(override: Override, config: DictConfig) -> None:
    key, value = override.key_or_group, override.value()
    new = override.is_add() or override.is_force_add() or re.match(r"cluster\.sbatch(\.|$)", key) is not None
    if override.is_sweep_override():
        raise ValueError("must be a single value; write a list in brackets: [a,b]")
    if override.is_delete():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        with open_dict(node):
            del node[name]
    elif override.is_add() and OmegaConf.select(config, key) is not None and not isinstance(value, dict | list):
        raise ValueError("already exists; remove the +")
    else:
        OmegaConf.update(config, key, value, merge=True, force_add=new)


def _unknown_settings(items: Sequence[str], known: object) -> list[str]:
    """One line for each mapping in `known` in which arguments set unknown names. Lists the valid names."""
    unknown: dict[str, list[tuple[str, str]]] = {}  # place -> (argument, name)
    valid: dict[str, list[str]] = {}
    for item in items:
        node, walked = known, list[str]()
        for part in item.split("=")[0].lstrip("+~").split("."):
            if not isinstance(node, dict):
                break
            if part not in node:
                place = ".".join(walked)
                unknown.setdefault(place, []).append((item, part))
                valid[place] = sorted(map(str, node))
                break
            node = node[part]
            walked.append(part)
    lines = []
    for place, entries in unknown.items():
        within, hints = f" in {place}" if place else "", [similar_hint(name, valid[place]) for _, name in entries]
        what = f"unknown setting {entries[0][1]!r}{within}{hints[0]}"
        if len(entries) > 1:
            names = ", ".join(f"{name!r}{hint}" for (_, name), hint in zip(entries, hints, strict=True))
            what = f"unknown settings {names}{within}"
        lines.append(f"{' '.join(item for item, _ in entries)}: {what}; valid: {', '.join(valid[place])}")
    return lines

"""From the command line to one settled configuration: Hydra composes it, `auto` is decided here."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dynamic_rcnn.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]
CONF = Path(__file__).resolve().parent / "conf"
ACTIONS = ("launch", "plan", "status", "cancel", "why")
RERUN = ("none", "stale")
COCO_FILES = ("annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017", "val2017")


def settle(overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration for `overrides`, and one line for each thing that was chosen, and why.

    Raises UserError for whatever Hydra refuses, unknown names and wrong values.
    """
    _check_form(overrides)
    config = _compose(overrides)
    chosen = []
    if config.dataset.name == "auto":
        dataset, reason = _choose_dataset(config.dataset.root)
        given = [item for item in overrides if item.split("=")[0] != "dataset"]
        overrides = [*given, f"dataset={dataset}"]
        config = _compose(overrides)
        chosen.append(f"dataset={dataset}: {reason}")
    if config.cluster.name == "auto":
        overrides = [*(item for item in overrides if item.split("=")[0] != "cluster"), "cluster=local"]
        config = _compose(overrides)
        chosen.append("cluster=local: runs take turns in slots of this machine")
    _check_choice("action", config.action, ACTIONS)
    _check_choice("rerun", config.rerun, RERUN)
    if not isinstance(config.watch, bool):
        raise UserError(f"watch={config.watch}: must be true or false")
    return config, chosen


def runs_folder(config: DictConfig) -> Path:
    """The run folder: `runs=` relative to the working directory, else runs/ in the project."""
    return Path(config.runs).resolve() if config.runs is not None else PROJECT / "runs"


def _compose(overrides: Sequence[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, overrides)) from None


def _check_form(overrides: Sequence[str]) -> None:
    for item in overrides:
        if "=" not in item:
            raise UserError(f"{item!r}: an argument has the form name=value, e.g. grid=ablation action=plan")


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message without its hints for programmers; for an unknown name, with the valid ones."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    group = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if group:
        valid = sorted(path.stem for path in _group_folder(group[1]).glob("*.yaml"))
        return f"{group[1]}={group[2]}: unknown {group[1]}{_close(group[2], valid)}; valid: {', '.join(valid)}"
    for item in overrides:
        path = item.split("=")[0].lstrip("+~")
        parents = _known_prefix(path)
        if parents is not None:
            where, valid = parents
            name = path[len(where) + 1 :].split(".")[0] if where else path.split(".")[0]
            place = f" in {where}" if where else ""
            return f"{item}: unknown setting {name!r}{place}{_close(name, valid)}; valid: {', '.join(valid)}"
    return text


def _known_prefix(path: str) -> tuple[str, list[str]] | None:
    """(the longest existing part of the dotted `path`, the names below it); None if all of it exists."""
    node: object = OmegaConf.to_container(_defaults())
    walked: list[str] = []
    for part in path.split("."):
        if not isinstance(node, dict):
            return None
        if part not in node:
            return ".".join(walked), sorted(str(key) for key in node)
        node = node[part]
        walked.append(part)
    return None


def _defaults() -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["dataset=shapes", "cluster=local"])


def _group_folder(group: str) -> Path:
    return PROJECT / "dynamic_rcnn" / "configs" / "base" if group == "base" else CONF / group


def _close(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _check_choice(name: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise UserError(f"{name}={value}: unknown {name}{_close(str(value), valid)}; valid: {', '.join(valid)}")


def _choose_dataset(root: str | None) -> tuple[str, str]:
    places = [place for place in (root, os.environ.get("COCO_ROOT"), str(PROJECT / "data" / "coco")) if place]
    for place in places:
        if all((Path(place) / name).exists() for name in COCO_FILES):
            return "coco", f"COCO 2017 is in {place}"
    if root is not None:
        raise UserError(f"dataset.root={root}: holds no COCO 2017 ({', '.join(COCO_FILES)}); see dataset=coco_format")
    return "shapes", "no COCO 2017 in dataset.root, $COCO_ROOT or data/coco; results are on generated shapes"


def terminal_width() -> int:
    return shutil.get_terminal_size((160, 40)).columns

"""From the command line to one settled configuration: Hydra composes it, then `auto` and the processes are decided."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data.dataset import PATHS
from dynamic_rcnn.errors import UserError
from experiments.config import cluster as executor
from experiments.config.overrides import BASES, CONF, load
from experiments.config.schema import check_count
from experiments.config.weights import evaluates, settle_weights

ACTIONS = ("launch", "plan", "doctor", "status", "logs", "cancel", "why", "script")
RERUN = ("none", "stale")
_GROUPS = ("base", "cluster", "dataset", "grid")
_SETTINGS = ("action", "arms", "json", "lines", "rerun", "run", "runs", "seeds", "watch", "weights")


def settle(overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration for `overrides`, and one line for each thing that was chosen, and why.

    It has one field more than can be set: `choices`, the names of the base, data set, cluster and grid.
    Raises UserError for whatever Hydra refuses, unknown names and wrong values.
    """
    _check_form(overrides)
    executor.refuse_processes(overrides)
    config, chosen = _compose(overrides), []
    needed = [key for key in PATHS if key != "train_img" or not evaluates(config)]
    if config.dataset.name == "auto":
        dataset, reason = _choose_dataset(config.dataset.root, needed)
        if dataset == "coco":
            given = [item for item in overrides if item.split("=")[0] != "dataset"]
            config = _compose([*given, "dataset=coco"])
        config.dataset.name = dataset  # what auto.yaml holds is shapes already
        chosen.append(f"dataset={dataset}: {reason}")
    if config.choices.dataset == "coco":
        given_root, config.dataset.root = config.dataset.root, _coco_root(config.dataset, needed)
        if given_root is None and not chosen:
            chosen.append(f"dataset.root={config.dataset.root}: COCO 2017 is there")
    elif config.dataset.name == "coco":
        raise UserError("dataset.name=coco: is for COCO 2017, dataset=coco, alone; choose another name")
    _check_values(config)
    chosen += settle_weights(config)
    if config.choices.cluster == "auto":
        found, reason = executor.choose()
        executor.refuse_fields(found, reason, overrides)
        config.cluster = executor.only(found, config.cluster)
        chosen.append(f"cluster={found}: {reason}")
    chosen += executor.settle_processes(config)
    if config.action == "script" and config.cluster.executor != executor.SLURM:
        raise UserError(f"action=script: cluster={config.cluster.name} has no batch script; give cluster=slurm")
    return config, chosen


def runs_folder(config: DictConfig) -> Path:
    """The run folder: `runs=` relative to the working directory, else runs/ in the project. UserError for a file."""
    folder = Path(config.runs).resolve() if config.runs is not None else PROJECT / "runs"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"runs={folder}: is a file; runs= must name a folder of runs")
    return folder


def _compose(overrides: Sequence[str]) -> DictConfig:
    try:
        config, choices = _composed_with_grids_base(overrides)
        unknown = sorted(set(map(str, config)) - {*_GROUPS, *_SETTINGS})
        if unknown:
            raise UserError(f"{unknown[0]}: unknown setting; valid: {', '.join(sorted((*_GROUPS, *_SETTINGS)))}")
        gone = [name for name in (*_GROUPS, *_SETTINGS) if name not in config]
        if gone:
            raise UserError(f"{gone[0]}: must be given")
        missing = sorted(map(str, OmegaConf.missing_keys(config)))
        if missing:
            raise UserError(f"{', '.join(missing)}: must be given, e.g. {missing[0]}=VALUE")
        OmegaConf.resolve(config)
        with open_dict(config):
            config.choices = {name: choices[name] for name in _GROUPS}
        return config
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, UserWarning) as error:
        raise UserError(_one_line(error, overrides)) from None


def _composed_with_grids_base(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """As `_composed`; where no base is given, with the one that the grid has in the place of the data set's."""
    if any(item.startswith("base=") for item in overrides):
        return _composed(overrides)
    fields = any(item.lstrip("+~").startswith("base.") for item in overrides)  # some may be the grid's base's alone
    config, choices = _composed(_of_groups(overrides) if fields else overrides)
    base = OmegaConf.select(config, f"grid.base_for.{choices['base']}")
    if base is not None:
        return _composed([*overrides, f"base={base}"])
    return _composed(overrides) if fields else (config, choices)


def _of_groups(overrides: Sequence[str]) -> list[str]:
    """Those that choose: all else may be wrong."""
    return [item for item in overrides if item.split("=")[0] in _GROUPS]


def _composed(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration, and which choice each group has."""
    GlobalHydra.instance().clear()
    with warnings.catch_warnings(), initialize_config_dir(str(CONF), version_base="1.3"):
        warnings.simplefilter("error", UserWarning)  # Hydra goes on without a search path that is not there
        config = compose("config", overrides=_with_new_keys(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with flag_override(config, ["struct", "readonly"], False):
        del config["hydra"]
    return config, choices


def _with_new_keys(overrides: Sequence[str]) -> list[str]:
    """Further flags of sbatch are new keys, for which Hydra wants ++."""
    return [f"++{item}" if re.match(r"cluster\.sbatch[.=]", item) else item for item in overrides]


def _check_form(overrides: Sequence[str]) -> None:
    for item in overrides:
        name, equals, value = item.partition("=")
        if not equals and not item.startswith("~"):
            raise UserError(f"{item!r}: an argument has the form name=value, e.g. grid=ablation action=plan")
        if name in _GROUPS and (value in ("", "null") or value[0] in "[{" or "," in value):
            raise UserError(f"{item}: must be one name; valid: {', '.join(_choices(name))}")


def _check_values(config: DictConfig) -> None:
    _check_choice("action", config.action, ACTIONS)
    _check_choice("rerun", config.rerun, RERUN)
    for name in ("json", "watch"):
        if not isinstance(config[name], bool):
            raise UserError(f"{name}={config[name]}: must be true or false")
    if config.json and config.watch:
        raise UserError("watch=true json=true: give one of the two; json=true prints one document and ends")
    check_count("lines", config.lines, 1)
    if config.run is not None and (not isinstance(config.run, str) or not config.run):
        raise UserError(f"run={config.run}: must be a run such as both/seed1, or null for all that failed")
    if config.runs is not None and (not isinstance(config.runs, str) or not config.runs):
        raise UserError(f"runs={config.runs}: must be a folder, or null for runs/ in the project")


def _one_line(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message without its hints for programmers; for an unknown name, with the valid ones."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    text = text.split(" See https://hydra.cc")[0]
    group = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if group:
        valid = _choices(group[1])
        return f"{group[1]}={group[2]}: unknown {group[1]}{_close(group[2], valid)}; valid: {', '.join(valid)}"
    known = OmegaConf.to_container(_defaults(overrides))
    found = [unknown for item in overrides if (unknown := _unknown_setting(item, known))]
    places = {place: valid for _, _, place, valid in found}
    return "; ".join(_unknown_line(place, valid, found) for place, valid in places.items()) or text


def _unknown_line(place: str, valid: Sequence[str], found: Sequence[tuple[str, str, str, list[str]]]) -> str:
    """The message for all of `found` that are unknown in one place."""
    here = [(item, name) for item, name, where, _ in found if where == place]
    within = f" in {place}" if place else ""
    if len(here) == 1:
        ((item, name),) = here
        return f"{item}: unknown setting {name!r}{within}{_close(name, valid)}; valid: {', '.join(valid)}"
    listed = ", ".join(f"{name!r}{_close(name, valid)}" for _, name in here)
    return f"{' '.join(item for item, _ in here)}: unknown settings {listed}{within}; valid: {', '.join(valid)}"


def _unknown_setting(item: str, node: object) -> tuple[str, str, str, list[str]] | None:
    """(item, name, where, names that are valid there) for an override of what is not in `node`, the settings."""
    path = item.split("=")[0].lstrip("+~")
    walked: list[str] = []
    for part in path.split("."):
        if not isinstance(node, dict):
            return None
        if part not in node:
            return item, part, ".".join(walked), sorted(map(str, node))
        node = node[part]
        walked.append(part)
    return None


def _defaults(overrides: Sequence[str]) -> DictConfig:
    """What there is to set, with the choices of groups in `overrides`, where those are good."""
    try:
        return _composed_with_grids_base(_of_groups(overrides))[0]
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, UserWarning):
        return _composed([])[0]


def _choices(group: str) -> list[str]:
    folder = BASES if group == "base" else CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _close(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _check_choice(name: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise UserError(f"{name}={value}: unknown {name}{_close(str(value), valid)}; valid: {', '.join(valid)}")


def _choose_dataset(root: str | None, needed: Sequence[str]) -> tuple[str, str]:
    """(data set, why). needed: which of PATHS must be there."""
    files = [load(CONF / "dataset" / "coco.yaml")["dataset"][key] for key in needed]
    place = _find_coco(root, files)
    if place is not None:
        return "coco", f"COCO 2017 is in {place}"
    if root is not None:
        raise UserError(
            f"dataset.root={root}: holds no COCO 2017 ({', '.join(files)}); name the data set as well: "
            "dataset=coco_format for any other in COCO format, dataset=shapes for where shapes are drawn"
        )
    return "shapes", "no COCO 2017 in dataset.root, $COCO_ROOT or data/coco; results are on generated shapes"


def _coco_root(dataset: DictConfig, needed: Sequence[str]) -> str:
    """Where COCO is, for dataset=coco. Raises UserError if it is not there."""
    root, files = dataset.root, [str(dataset[key]) for key in needed]
    place = _find_coco(root, files)
    if place is not None:
        return place
    where = "dataset=coco: $COCO_ROOT and data/coco hold" if root is None else f"dataset.root={root}: holds"
    raise UserError(f"{where} no COCO 2017 ({', '.join(files)}); give its folder: dataset.root=FOLDER")


def _find_coco(root: str | None, files: Sequence[str]) -> str | None:
    """The folder that holds COCO's files: `root` if it is given, and no other, else $COCO_ROOT or data/coco."""
    places = [root] if root is not None else [os.environ.get("COCO_ROOT"), PROJECT / "data" / "coco"]
    named = [str(place) for place in places if place]
    return next((place for place in named if all((Path(place) / name).exists() for name in files)), None)

"""Which file is chosen for each group of the configuration: grid, data set, base and cluster.

`dataset=auto` is COCO if a valid COCO is found, else shapes; `cluster` decides what `cluster=auto` is. The data set's
file names the base, unless the grid replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data.dataset import PATHS
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE, TRAIN
from experiments.config import cluster as clusters
from experiments.config.arguments import GROUPS, chooses, value_of
from experiments.config.conf_files import CONF, load
from experiments.config.schema import Choices


def choose(overrides: Sequence[Override]) -> tuple[Choices, list[str]]:
    """The choices, and the arguments with which Hydra composes them. Needs an initialised Hydra."""
    groups = [str(each.input_line) for each in overrides if chooses(each)]
    found, grid = _by_defaults(groups)
    lines: dict[str, str] = {}
    if found["dataset"] == "auto" and value_of(overrides, "dataset.name") is None:
        task = value_of(overrides, "grid.task") or grid.get("task", TRAIN)
        dataset, reason = _choose_dataset(value_of(overrides, "dataset.root"), _needed_files(task))
        lines["dataset_line"] = f"dataset={dataset}: {reason}"
        groups, found["dataset"] = _with(groups, "dataset", dataset), dataset
        if dataset == "coco":  # auto.yaml builds on shapes, and names its base
            found, grid = _by_defaults(groups)
    if found["cluster"] == "auto":
        executor, reason = clusters.choose_executor()
        clusters.refuse_fields(executor, reason, [str(each.input_line) for each in overrides])
        lines["cluster_line"] = f"cluster={executor}: {reason}"
        groups, found["cluster"] = _with(groups, "cluster", executor), executor
    base = {**(grid.get("base_for") or {}), **(value_of(overrides, "grid.base_for") or {})}.get(found["base"])
    if base is not None and not any(each.key_or_group == "base" for each in overrides):
        groups, found["base"] = _with(groups, "base", base), base
    return Choices(**found, **lines), groups


def _needed_files(task: str) -> list[str]:
    """The fields of a data set whose files a grid with this task needs."""
    return [key for key in PATHS if key != "train_img" or task != EVALUATE]


def find_coco(dataset: dict[str, Any], task: str) -> str:
    """The folder of COCO for dataset=coco. Raises UserError if it is not there."""
    root, files = dataset.get("root"), [str(dataset.get(key)) for key in _needed_files(task)]
    folder = _find_coco(root, files)
    if folder is not None:
        return folder
    where = "dataset=coco: $COCO_ROOT and data/coco do" if root is None else f"dataset.root={root}: does"
    raise UserError(f"{where} not contain COCO 2017 ({', '.join(files)}); give its folder: dataset.root=FOLDER")


def _by_defaults(groups: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The choice of each group by Hydra's defaults lists, and the field `grid` of the chosen files, unresolved."""
    defaults = GlobalHydra.instance().config_loader().compute_defaults_list("config", list(groups), RunMode.RUN)
    known = defaults.overrides.known_choices
    for group in GROUPS:
        if not known.get(group):
            raise UserError(f"{group}: must be given")
    grid: dict[str, Any] = {}
    for path in (each.config_path for each in defaults.defaults):
        if path and path.startswith("grid/"):
            grid |= load(CONF / f"{path}.yaml").get("grid") or {}
    return {group: str(known[group]) for group in GROUPS}, grid


def _with(groups: Sequence[str], group: str, choice: str) -> list[str]:
    return [item for item in groups if item.split("=")[0] != group] + [f"{group}={choice}"]


def _choose_dataset(root: str | None, needed: Sequence[str]) -> tuple[str, str]:
    """(data set, why). needed: the fields of coco.yaml whose files must be there."""
    files = [load(CONF / "dataset" / "coco.yaml")["dataset"][key] for key in needed]
    folder = _find_coco(root, files)
    if folder is not None:
        return "coco", f"COCO 2017 is in {folder}"
    if root is not None:
        raise UserError(
            f"dataset.root={root}: does not contain COCO 2017 ({', '.join(files)}); name the data set as well: "
            "dataset=coco_format for another one in COCO format, dataset=shapes to draw shapes there"
        )
    return "shapes", "no COCO 2017 in dataset.root, $COCO_ROOT or data/coco; results are on generated shapes"


def _find_coco(root: str | None, files: Sequence[str]) -> str | None:
    """The folder that holds COCO's files: only `root` if it is given, else $COCO_ROOT or data/coco."""
    folders = [root] if root is not None else [os.environ.get("COCO_ROOT"), PROJECT / "data" / "coco"]
    named = [str(folder) for folder in folders if folder]
    return next((folder for folder in named if all((Path(folder) / name).exists() for name in files)), None)

"""Which file is chosen for each group of the configuration: grid, data set, base and cluster.

`dataset=auto` is COCO if a valid COCO is found, else shapes; `cluster` decides what `cluster=auto` is. The data set's
file names the base, unless the grid replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override

from dynamic_rcnn import PROJECT
from dynamic_rcnn.data.dataset import PATHS
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import EVALUATE, TRAIN
from experiments.config import cluster as clusters
from experiments.config.arguments import chooses_file, parse, value_of
from experiments.config.conf_files import expand_home, load
from experiments.config.defaults_list import chosen_files, merged_content
from experiments.config.schema import Choices

ADVISE = "advise"  # an action, and the grid that it uses by default


def choose(overrides: Sequence[Override]) -> tuple[Choices, list[ResultDefault]]:
    """The chosen file of each group, and the files to merge for these choices."""
    groups = [each for each in overrides if chooses_file(each)]
    if value_of(overrides, "action") == ADVISE and not any(each.key_or_group == "grid" for each in groups):
        groups = _with_choice(groups, "grid", ADVISE)
    found, files = chosen_files(groups)
    lines: dict[str, str] = {}
    if found["dataset"] == "auto" and value_of(overrides, "dataset.name") is None:
        task = value_of(overrides, "grid.task") or _grid(files).get("task", TRAIN)
        dataset, reason = _choose_dataset(value_of(overrides, "dataset.root"), _needed_files(task))
        lines["dataset_line"] = f"dataset={dataset}: {reason}"
        groups = _with_choice(groups, "dataset", dataset)
        found, files = chosen_files(groups)
    if found["cluster"] == "auto":
        executor, reason = clusters.choose_executor()
        clusters.refuse_fields(executor, reason, [str(each.input_line) for each in overrides])
        lines["cluster_line"] = f"cluster={executor}: {reason}"
        groups = _with_choice(groups, "cluster", executor)
    base_for = _mapping(_grid(files).get("base_for")) | _mapping(value_of(overrides, "grid.base_for"))
    if found["base"] in base_for and not any(each.key_or_group == "base" for each in overrides):
        groups = _with_choice(groups, "base", base_for[found["base"]])
    found, files = chosen_files(groups)
    return Choices(**found, **lines), files


def _grid(files: Sequence[ResultDefault]) -> dict[str, Any]:
    """The field `grid` of the chosen files, unresolved."""
    return _mapping(merged_content([file for file in files if str(file.config_path).startswith("grid/")]).get("grid"))


def _mapping(value: Any) -> dict[str, Any]:
    """`value` if it is a mapping, else an empty mapping: the schema reports the fault later."""
    return value if isinstance(value, dict) else {}


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


def _with_choice(groups: Sequence[Override], group: str, choice: str) -> list[Override]:
    return [each for each in groups if each.key_or_group != group] + parse([f"{group}={choice}"])


def _choose_dataset(root: str | None, needed: Sequence[str]) -> tuple[str, str]:
    """(data set, why). needed: the fields of coco.yaml whose files must be there."""
    files = [load("dataset/coco")["dataset"][key] for key in needed]
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
    folders = [expand_home(root)] if root is not None else [os.environ.get("COCO_ROOT"), PROJECT / "data" / "coco"]
    named = [str(folder) for folder in folders if folder]
    return next((folder for folder in named if all((Path(folder) / name).exists() for name in files)), None)

"""A grid with `task: measure`: one run a seed, which holds all arms and measures them side by side.

The run is called like the grid. It takes the base's data, batch a process and optimizer; its iterations are blocks.
"""

from __future__ import annotations

import copy
from typing import Any

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.spec import MEASURE, RunSpec
from experiments.config.schema import check_count, check_names, checked_task

# what grid.measure holds: counts, and the arms of the first part (at inference all are measured)
_MEASURE = {"training": ("warmup", "rounds", "iterations", "arms"), "inference": ("warmup", "rounds", "images")}


def check_measure(grid: dict[str, Any]) -> None:
    """`grid.measure`, where measuring is the task: one run then holds all arms, on shared data."""
    settings, task = grid.get(MEASURE), checked_task(grid)
    if (settings is not None) != (task == MEASURE):
        raise UserError(f"grid.measure={settings}: belongs to grid.task=measure, which is {task}")
    if settings is None:
        return
    without = ["contrasts"] if grid.get("contrasts") else []
    for name in ("baseline", "replay"):
        without += [f"arms.{arm}.{name}" for arm, content in grid["arms"].items() if name in content]
    if without:
        raise UserError(f"grid.{without[0]}: a grid with task: measure has none, all are timed against its baseline")
    parts = settings if isinstance(settings, dict) else {}
    check_names("grid.measure", parts, _MEASURE)
    for part, names in _MEASURE.items():
        where = f"grid.measure.{part}"
        if not isinstance(parts[part], dict):
            raise UserError(f"{where}={parts[part]}: must be a mapping")
        check_names(where, parts[part], names)
        for name in (each for each in names if each != "arms"):
            check_count(f"{where}.{name}", parts[part][name], 2 if name == "rounds" else 1)
    trained = parts["training"]["arms"]
    if not isinstance(trained, list) or grid["baseline"] not in trained:
        raise UserError(f"grid.measure.training.arms={trained}: must be a list with the baseline {grid['baseline']}")
    unknown = [str(arm) for arm in trained if not isinstance(arm, str) or arm not in grid["arms"]]
    if unknown:
        raise unknown_name("arm", unknown, grid["arms"], "grid.measure.training.arms")
    for arm, content in grid["arms"].items():
        others = [path for each in (content["set"], *content.get("set_for", {}).values()) for path in each]
        if any(path.split(".")[0] != "model" for path in others):
            raise UserError(f"grid.arms.{arm}.set: arms are measured on the same data and schedule; set model.* alone")


def measuring_spec(
    grid: dict[str, Any], base: dict[str, Any], arms: dict[str, dict[str, Any]], dataset: dict[str, Any]
) -> RunSpec:
    """The run, with seed 0. base: resolved; arms: the resolved configuration of each chosen arm.

    Raises UserError if the baseline is not among the arms: nothing could be compared.
    """
    if grid["baseline"] not in arms:
        raise UserError(f"arms={list(arms)}: must have the baseline {grid['baseline']}, which all are compared with")
    settings = copy.deepcopy(grid[MEASURE])
    trained = [arm for arm in settings["training"]["arms"] if arm in arms]
    settings["training"]["arms"] = trained
    blocks = settings["training"]["rounds"] * len(trained) + settings["inference"]["rounds"] * len(arms)
    config = {
        **_one_process(base, blocks),
        "arms": {name: config["model"] for name, config in arms.items()},
        MEASURE: {"baseline": grid["baseline"], **settings},
    }
    return RunSpec(grid["name"], 0, dataset, config, task=MEASURE)


def _one_process(base: dict[str, Any], blocks: int) -> dict[str, Any]:
    """The base as one of its processes trains it: its share of the batch, the learning rate scaled linearly."""
    config = copy.deepcopy(base)
    train, optimizer = config["train"], config["optim_wrapper"]["optimizer"]
    share = images_per_process(train["batch_size"], train["processes"], optimizer["lr"])
    optimizer["lr"] *= share / train["batch_size"]
    train.update(batch_size=share, processes=1, max_iters=blocks, max_epochs=None)
    return config

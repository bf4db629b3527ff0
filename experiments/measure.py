"""A grid with `task: measure`: one run a seed, which holds all arms and measures them side by side.

The run is called like the grid. It takes the base's data, batch a process and optimizer; its iterations are blocks.
"""

from __future__ import annotations

import copy
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import MEASURE, RunSpec, images_per_process


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

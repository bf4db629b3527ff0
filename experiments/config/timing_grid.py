"""The run of a grid with `task: benchmark`, which times all arms side by side.

The run has the grid's name. It uses the base's data, batch per process and optimizer; its iterations are blocks.
"""

from __future__ import annotations

import copy
from typing import Any

from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.spec import BENCHMARK, RunSpec
from experiments.config.schema import GridFile


def benchmark_spec(
    grid: GridFile, base: dict[str, Any], arms: dict[str, dict[str, Any]], dataset: dict[str, Any]
) -> RunSpec:
    """The run, with seed 0.

    Args:
        grid: the grid file.
        base: the base with the data set's number of classes.
        arms: the configuration of each chosen arm, the baseline among them.
        dataset: the data set, as specs have it.
    """
    assert grid.benchmark is not None
    settings = grid.benchmark.model_dump()
    trained = [arm for arm in settings["training"]["arms"] if arm in arms]
    settings["training"]["arms"] = trained
    blocks = settings["training"]["rounds"] * len(trained) + settings["inference"]["rounds"] * len(arms)
    config = {
        **_one_process(base, blocks),
        "arms": {name: config["model"] for name, config in arms.items()},
        BENCHMARK: {"baseline": grid.baseline, **settings},
    }
    return RunSpec(grid.name, 0, dataset, config, task=BENCHMARK)


def _one_process(base: dict[str, Any], blocks: int) -> dict[str, Any]:
    """The base as one of its processes trains it: its share of the batch, the learning rate scaled linearly."""
    config = copy.deepcopy(base)
    train, optimizer = config["train"], config["optim_wrapper"]["optimizer"]
    share = images_per_process(train["batch_size"], train["processes"], optimizer["lr"])
    optimizer["lr"] *= share / train["batch_size"]
    train.update(batch_size=share, processes=1, max_iters=blocks, max_epochs=None)
    return config

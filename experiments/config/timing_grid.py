"""A grid with `task: benchmark`: one run per seed, which times all arms side by side.

The run has the grid's name. It uses the base's data, batch per process and optimizer; its iterations are blocks.
"""

from __future__ import annotations

import copy
from typing import Any

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.spec import BENCHMARK, RunSpec
from experiments.config.schema import check_count, check_names, checked_task

# The fields of grid.benchmark: counts, and the arms that are timed in training (at inference all are).
_FIELDS = {"training": ("warmup", "rounds", "iterations", "arms"), "inference": ("warmup", "rounds", "images")}


def check_benchmark(grid: dict[str, Any]) -> None:
    """Check `grid.benchmark`, which a grid has if and only if its task is to time its arms."""
    settings, task = grid.get(BENCHMARK), checked_task(grid)
    if (settings is not None) != (task == BENCHMARK):
        raise UserError(f"grid.benchmark={settings}: belongs to grid.task=benchmark, which is {task}")
    if settings is None:
        return
    without = ["contrasts"] if grid.get("contrasts") else []
    for name in ("baseline", "replay"):
        without += [f"arms.{arm}.{name}" for arm, content in grid["arms"].items() if name in content]
    if without:
        raise UserError(f"grid.{without[0]}: a grid with task: benchmark has none, all are timed against its baseline")
    parts = settings if isinstance(settings, dict) else {}
    check_names("grid.benchmark", parts, _FIELDS)
    for part, names in _FIELDS.items():
        where = f"grid.benchmark.{part}"
        if not isinstance(parts[part], dict):
            raise UserError(f"{where}={parts[part]}: must be a mapping")
        check_names(where, parts[part], names)
        for name in (each for each in names if each != "arms"):
            check_count(f"{where}.{name}", parts[part][name], 2 if name == "rounds" else 1)
    trained = parts["training"]["arms"]
    if not isinstance(trained, list) or grid["baseline"] not in trained:
        raise UserError(f"grid.benchmark.training.arms={trained}: must be a list with the baseline {grid['baseline']}")
    unknown = [str(arm) for arm in trained if not isinstance(arm, str) or arm not in grid["arms"]]
    if unknown:
        raise unknown_name("arm", unknown, grid["arms"], "grid.benchmark.training.arms")
    for arm, content in grid["arms"].items():
        others = [path for each in (content["set"], *content.get("set_for", {}).values()) for path in each]
        if any(path.split(".")[0] != "model" for path in others):
            raise UserError(f"grid.arms.{arm}.set: all arms are timed on the same data and schedule; set only model.*")


def benchmark_spec(
    grid: dict[str, Any], base: dict[str, Any], arms: dict[str, dict[str, Any]], dataset: dict[str, Any]
) -> RunSpec:
    """The run, with seed 0. base: resolved; arms: the resolved configuration of each chosen arm.

    Raises UserError if the baseline is not among the arms: nothing could be compared.
    """
    if grid["baseline"] not in arms:
        raise UserError(f"arms={list(arms)}: must have the baseline {grid['baseline']}, which all are compared with")
    settings = copy.deepcopy(grid[BENCHMARK])
    trained = [arm for arm in settings["training"]["arms"] if arm in arms]
    settings["training"]["arms"] = trained
    blocks = settings["training"]["rounds"] * len(trained) + settings["inference"]["rounds"] * len(arms)
    config = {
        **_one_process(base, blocks),
        "arms": {name: config["model"] for name, config in arms.items()},
        BENCHMARK: {"baseline": grid["baseline"], **settings},
    }
    return RunSpec(grid["name"], 0, dataset, config, task=BENCHMARK)


def _one_process(base: dict[str, Any], blocks: int) -> dict[str, Any]:
    """The base as one of its processes trains it: its share of the batch, the learning rate scaled linearly."""
    config = copy.deepcopy(base)
    train, optimizer = config["train"], config["optim_wrapper"]["optimizer"]
    share = images_per_process(train["batch_size"], train["processes"], optimizer["lr"])
    optimizer["lr"] *= share / train["batch_size"]
    train.update(batch_size=share, processes=1, max_iters=blocks, max_epochs=None)
    return config

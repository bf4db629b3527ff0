"""The rules for what a grid's configuration holds; each breach is one UserError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import StrictInt

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.batch import images_per_process
from dynamic_rcnn.run.manifest import NAME_RULE, Contrasts, Paper, contrast_faults, is_plain_name
from dynamic_rcnn.run.schema import validate
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TASKS, TRAIN
from experiments.config.overrides import BASES

PRETRAIN = "pretrain"
_GRID = ("name", "title", "baseline", "arms")
_GRID_OPTIONAL = ("task", "seeds", "cost", "paper", "contrasts", "seen_seeds", "base_for", BENCHMARK)
_TRAINED = ("seeds", "cost", "contrasts", "seen_seeds")  # of a grid whose runs train
_INTERVALS = ("log_interval", "checkpoint_interval", "keep_checkpoints")
_COUNTS = ("max_iters", "max_epochs", "batch_size", "processes", *_INTERVALS)
_FROM_ZERO = ("workers", "val_interval")
_SWITCHES = ("label_assignment", "smooth_l1", "all_reduce")
_TOPK = ("iou_topk", "beta_topk", "update_iter_interval")
_LIMITS = ("initial_iou", "initial_beta")
_TRAIN = (*_COUNTS, *_FROM_ZERO, "group_by_aspect_ratio")


def chosen_arms(grid: dict[str, Any], chosen: Any) -> dict[str, dict[str, Any]]:
    """The arms named in `chosen`, in the grid's order; all of them for None."""
    _check_grid(grid)
    name, arms = grid["name"], grid["arms"]
    if chosen is None:
        return dict(arms)
    if not isinstance(chosen, list) or not chosen:
        raise UserError(f"arms={chosen}: must be a list with at least one of {', '.join(arms)}")
    unknown = [arm for arm in chosen if not isinstance(arm, str) or arm not in arms]
    if unknown:
        raise unknown_name("arm", unknown, arms, f"grid {name}")
    return {arm: arms[arm] for arm in arms if arm in chosen}


def checked_task(grid: Any) -> str:
    """What the grid's runs do: train, where it does not say."""
    task = grid.get("task", TRAIN) if isinstance(grid, Mapping) else TRAIN
    if task not in TASKS:
        raise UserError(f"grid.task={task}: unknown task; valid: {', '.join(sorted(TASKS))}")
    return str(task)


def _check_grid(grid: dict[str, Any]) -> None:
    check_names("grid", grid, _GRID, _GRID_OPTIONAL)
    name, arms, cost = grid["name"], grid["arms"], grid.get("cost")
    _check_task(grid)
    if not is_plain_name(name):
        raise UserError(f"grid.name={name}: must be usable as part of a file's name: {NAME_RULE}")
    if not isinstance(grid["title"], str):
        raise UserError(f"grid.title={grid['title']}: must be text")
    if not isinstance(arms, dict) or not arms:
        raise UserError(f"grid {name}: has no arms; give at least one under grid.arms")
    for arm, content in arms.items():
        _check_arm(f"grid.arms.{arm}", arm, content)
    for arm in arms:
        if checked_task(grid) == EVALUATE and "replay" in arms[arm]:
            raise UserError(f"grid.arms.{arm}.replay: a grid with task: evaluate trains nothing; leave it out")
        _check_replay(f"grid.arms.{arm}.replay", arm, arms)
    if not isinstance(grid["baseline"], str) or grid["baseline"] not in arms:
        raise unknown_name("baseline", [str(grid["baseline"])], arms, f"grid {name}")
    for arm, content in arms.items():
        control = content.get("baseline", grid["baseline"])
        if not isinstance(control, str) or control not in arms:
            raise unknown_name("baseline", [str(control)], arms, f"grid.arms.{arm}")
        if "baseline" in arms[control]:
            raise UserError(f"grid.arms.{arm}.baseline={control}: has a baseline itself; name an arm that has none")
    if cost is not None and (not isinstance(cost, dict) or not all(_is_cost(value, arms) for value in cost.values())):
        raise UserError(
            f"grid.cost={cost}: must map data sets to seconds an iteration, or to arms and theirs, or be null"
        )
    _check_base_for(grid.get("base_for"))
    contrasts = validate(Contrasts | None, grid.get("contrasts"), "grid.contrasts")  # type: ignore[arg-type]
    for place, pair, rule in contrast_faults(contrasts or [], arms):
        raise UserError(f"grid.contrasts[{place[1]}]={pair}: {rule}")
    validate(dict[str, list[StrictInt]] | None, grid.get("seen_seeds"), "grid.seen_seeds")  # type: ignore[arg-type]
    validate(Paper | None, grid.get("paper"), "grid.paper")  # type: ignore[arg-type]


def _check_task(grid: dict[str, Any]) -> None:
    without = [field for field in _TRAINED if checked_task(grid) == EVALUATE and grid.get(field) is not None]
    if without:
        raise UserError(f"grid.{without[0]}={grid[without[0]]}: a grid with task: evaluate has none; leave it out")


def _check_arm(where: str, arm: Any, content: Any) -> None:
    if not is_plain_name(arm) or arm == PRETRAIN:
        raise UserError(f"{where}: must be usable as a folder's name ({NAME_RULE}), and not be {PRETRAIN!r}")
    if not isinstance(content, dict) or not isinstance(content.get("title"), str):
        raise UserError(f"{where}: must have a title and, under 'set', what it changes in the base")
    if not isinstance(content.get("set"), dict):
        raise UserError(f"{where}.set={content.get('set')}: must map settings of the base to values; {{}} for none")
    check_names(where, content, ("title", "set"), ("set_for", "replay", "baseline"))
    others = content.get("set_for", {})
    if not isinstance(others, dict) or not all(isinstance(each, dict) for each in others.values()):
        raise UserError(f"{where}.set_for={others}: must map bases to what the arm sets on them")
    _check_bases(others, f"{where}.set_for")
    for path in (path for each in (content["set"], *others.values()) for path in each):
        if path in ("train", "train.processes"):
            raise UserError(
                f"{where}.set.{path}: an arm cannot set train.processes, which the cluster sets; name others"
            )


def _check_bases(names: Iterable[Any], where: str) -> None:
    valid = sorted(path.stem for path in BASES.glob("*.yaml"))
    unknown = [str(name) for name in names if name not in valid]
    if unknown:
        raise unknown_name("base", unknown, valid, where)


def _check_base_for(bases: Any) -> None:
    """`base_for` maps the base that a data set chooses to the one that the grid has in its place."""
    if bases is None:
        return
    if not isinstance(bases, dict):
        raise UserError(f"grid.base_for={bases}: must map bases to bases")
    _check_bases([*bases, *bases.values()], "grid.base_for")


def _check_replay(where: str, arm: str, arms: dict[str, dict[str, Any]]) -> None:
    """An arm may replay another one that replays none itself."""
    source = arms[arm].get("replay")
    valid = [name for name, content in arms.items() if "replay" not in content]
    if "replay" in arms[arm] and source not in valid:
        raise unknown_name("arm", [str(source)], valid, where)


def checked_seeds(seeds: Any, field: str = "seeds") -> list[int]:
    """The seeds, if they are different integers from 0 to 2**31 - 1, and at least one."""
    if not isinstance(seeds, list) or not seeds:
        raise UserError(f"{field}={seeds}: must be a list with at least one seed, e.g. seeds=[0,1,2]")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise UserError(f"{field}: {seed!r} is not an integer from 0 to 2147483647; e.g. seeds=[0,1,2]")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{field}={seeds}: a seed is given twice")
    return seeds


def check_base(config: dict[str, Any], task: str = TRAIN) -> None:
    """Check that the resolved base has its sections, the settings of its schedule, and a batch for its processes."""
    kinds = {"model": dict, "data": dict, "train": dict, "optim_wrapper": dict, "param_scheduler": list}
    check_names("base", config, kinds)
    for name, kind in kinds.items():
        if not isinstance(config[name], kind):
            raise UserError(f"base.{name}={config[name]}: must be a {'mapping' if kind is dict else 'list'}")
    _check_train(config["train"])
    if task != BENCHMARK:  # it times other detectors too
        _check_method(config["model"])
    rate: Any = (config["optim_wrapper"].get("optimizer") or {}).get("lr")
    if not _is_positive(rate):
        raise UserError(f"base.optim_wrapper.optimizer.lr={rate}: must be a positive number")
    if task != EVALUATE:
        images_per_process(config["train"]["batch_size"], config["train"]["processes"], rate)


def _check_method(model: dict[str, Any]) -> None:
    """The constants and switches of `train_cfg.rcnn.dynamic_rcnn`."""
    where = "base.model.train_cfg.rcnn.dynamic_rcnn"
    found: Any = model
    for part in ("train_cfg", "rcnn", "dynamic_rcnn"):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{where}={found}: must be a mapping")
    check_names(where, found, (*_SWITCHES, *_TOPK, *_LIMITS))
    for name in _SWITCHES:
        if not isinstance(found[name], bool):
            raise UserError(f"{where}.{name}={found[name]}: must be true or false")
    for name in _TOPK:
        check_count(f"{where}.{name}", found[name], 1)
    for name in _LIMITS:
        if not _is_positive(found[name]) or found[name] > 1:
            raise UserError(f"{where}.{name}={found[name]}: must be above 0 and at most 1")


def _check_train(train: dict[str, Any]) -> None:
    check_names("base.train", train, _TRAIN)
    for name in _COUNTS:
        optional = name in ("max_iters", "max_epochs") and train[name] is None
        if not optional:
            check_count(f"base.train.{name}", train[name], 1)
    if (train["max_iters"] is None) == (train["max_epochs"] is None):
        given = f"max_iters={train['max_iters']}, max_epochs={train['max_epochs']}"
        raise UserError(f"base.train: {given}; give one of the two, and null for the other")
    for name in _FROM_ZERO:
        check_count(f"base.train.{name}", train[name], 0)
    if not isinstance(train["group_by_aspect_ratio"], bool):
        raise UserError(f"base.train.group_by_aspect_ratio={train['group_by_aspect_ratio']}: must be true or false")


def check_count(field: str, value: Any, least: int, extra: str = "") -> None:
    """Refuse what is no integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{field}={value}: must be an integer of at least {least}{extra}")


def check_names(where: str, found: Iterable[str], needed: Iterable[str], optional: Iterable[str] = ()) -> None:
    valid = (*needed, *optional)
    unknown = [name for name in found if name not in valid]
    if unknown:
        raise unknown_name("setting", unknown, valid, where)
    missing = [name for name in needed if name not in found]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} must be given")


def _is_cost(value: Any, arms: dict[str, Any]) -> bool:
    if isinstance(value, dict):
        return all(arm in arms and _is_positive(seconds) for arm, seconds in value.items())
    return _is_positive(value)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")

"""From the command line to checked settings, with a decision on everything that `auto` and null leave open.

`arguments` parses the command line, `choices` picks the file of each group, Hydra composes them once, `schema` checks
the result once, and `cluster` completes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dynamic_rcnn import PROJECT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import file_digest, named_digest
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE, TRAIN, flatten
from experiments.config import arguments as command_line
from experiments.config.choices import Choices, choose, find_coco
from experiments.config.cluster import resolve_cluster
from experiments.config.conf_files import expand_home, file_of, load
from experiments.config.defaults_list import merged_content
from experiments.config.foreign_base import describe, find_config, is_foreign
from experiments.config.schema import SLURM, Config, Settings, check

_EXAMPLE = "weights=/data/dynamic_rcnn_r50_fpn_1x-62a3f276.pth"


def resolve(arguments: Sequence[str]) -> tuple[Config, list[str]]:
    """Decide everything that the command line leaves open; add a line for each thing that was chosen and why."""
    overrides = command_line.parse(arguments)
    choices, content = _compose(overrides)
    lines = [choices.dataset_line]
    if choices.dataset == "coco":
        lines.append(_set_coco_root(content, choices))
    settings = check(content, choices.base)
    if settings.dataset.name == "coco" and choices.dataset != "coco":
        raise UserError("dataset.name=coco: is only for COCO 2017, dataset=coco; choose another name")
    weights, weights_line = _resolve_weights(settings, choices.grid)
    cluster, processes_line = resolve_cluster(settings, choices.base)
    if settings.action == "script" and cluster.executor != SLURM:
        raise UserError(f"action=script: cluster={cluster.name} has no batch script; give cluster=slurm")
    base = settings.base
    if settings.task != BENCHMARK:
        base = {**base, "train": {**base["train"], "processes": cluster.processes or 1}}
    config = Config(settings, choices, base, cluster, weights, _runs_folder(settings.runs))
    if is_foreign(choices.base):
        lines += describe(choices.base, find_config(choices.base))
    lines += [weights_line, choices.cluster_line, processes_line, *settings.without_effect(load("config"))]
    return config, list(filter(None, lines))


def _compose(overrides: Sequence[Override]) -> tuple[Choices, dict[str, Any]]:
    """The chosen files, and their content with the values of the command line, resolved."""
    try:
        choices, files = choose(overrides)
        content = merged_content(files)
        _check_files(content, choices)
        config = OmegaConf.create(content)
        OmegaConf.set_struct(config, True)
        command_line.apply([each for each in overrides if not command_line.chooses_file(each)], config)
        content = _resolved(config)
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(command_line.hydra_message(error)) from None
    missing = sorted(path for path, value in flatten(content).items() if value == "???")
    if missing:
        raise UserError(f"{', '.join(missing)}: must be given, e.g. {missing[0]}=VALUE")
    return choices, content


def _check_files(content: dict[str, Any], choices: Choices) -> None:
    """Refuse a grid under another grid's name, whose manifest it would take over, and a cluster without an executor."""
    grid, cluster = content.get("grid"), content.get("cluster")
    name = grid.get("name") if isinstance(grid, dict) else None
    if name is not None and name != choices.grid:
        file = file_of(f"grid/{choices.grid}")
        raise UserError(
            f"{file}: grid.name={name}: must be the name of the file, {choices.grid}; change one of the two"
        )
    if isinstance(cluster, dict) and "executor" not in cluster:
        file = file_of(f"cluster/{choices.cluster}")
        raise UserError(f"{file}: must begin with `defaults: [slurm, _self_]`, or [local, _self_] for this machine")


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, with interpolations (not in shell lines of jobs) and `~` in paths replaced."""
    setup = OmegaConf.to_container(config.cluster).get("setup", [])  # type: ignore[union-attr]
    if setup:
        config.cluster.setup = []
    content: dict[str, Any] = dict(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    if isinstance(setup, list) and setup:
        setup = [line.replace("\\${", "${") if isinstance(line, str) else line for line in setup]
    if setup:
        content["cluster"]["setup"] = setup
    for path in command_line.PATHS:
        *parents, name = path.split(".")
        parent = content.get(parents[0]) if parents else content
        if isinstance(parent, dict) and isinstance(parent.get(name), str):
            parent[name] = expand_home(parent[name])
    return content


def _set_coco_root(content: dict[str, Any], choices: Choices) -> str | None:
    """Set dataset.root to the folder that holds COCO. Returns a line about a folder that was found."""
    dataset, grid = content.get("dataset"), content.get("grid")
    if not isinstance(dataset, dict) or not isinstance(grid, dict):
        return None  # the schema reports it
    given = dataset.get("root")
    dataset["root"] = find_coco(dataset, grid.get("task", TRAIN))
    found = given is None and choices.dataset_line is None
    return f"dataset.root={dataset['root']}: COCO 2017 is there" if found else None


def _resolve_weights(settings: Settings, grid: str) -> tuple[dict[str, str] | None, str | None]:
    """File and sha256 of the weights that the runs evaluate, and a line about them; (None, None) if they train.

    OpenMMLab's file names end in the first 8 hex digits of the file's sha256, which are checked.
    """
    given = settings.weights
    if settings.task != EVALUATE:
        return None, None
    if not given:
        raise UserError(f"weights={given}: grid={grid} evaluates a file of weights; give its path, e.g. {_EXAMPLE}")
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        fault = "a directory or a device, not a file" if path.exists() else "no such file"
        raise UserError(f"weights={given}: {fault}; give the path of a file of weights, e.g. {_EXAMPLE}")
    try:
        found, named = file_digest(path), named_digest(path)
    except OSError as error:
        raise UserError(f"weights={given}: cannot be read ({error.strerror})") from None
    if named is not None and not found.startswith(named):
        raise UserError(
            f"weights={given}: its sha256 begins with {found[:8]}, its name has {named}: damaged or incomplete; "
            "get it again (or rename it, if these digits are not a digest)"
        )
    checked = "as in its name" if named else "not checked, since its name has no digest"
    return {"file": str(path), "sha256": found}, f"weights={path.name}: sha256 {found[:8]}, {checked}"


def _runs_folder(given: str | None) -> Path:
    """The run folder: `given` relative to the working directory, else runs/ in the project."""
    folder = Path(given).resolve() if given is not None else PROJECT / "runs"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"runs={folder}: is a file; runs= must name a folder of runs")
    return folder

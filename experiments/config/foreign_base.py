"""Bases from other places: `base=mmdet:NAME`, a config of the installed mmdet, or `base=path/to/config.py`.

The launcher resolves such a config into a base; the specs of runs contain the result, so that no run reads the config.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dynamic_rcnn import PROJECT
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.schema import similar_hint
from experiments.config.mmdet_config import box_losses, find_faults, to_base

MMDET = "mmdet:"
VALID = f"{MMDET}NAME of one of mmdet's configs, or the path of a config file (.py)"
TEMPLATE = "faster_rcnn_r50_fpn_1x"  # has the fields that mmdet's configs lack


def is_foreign(name: str) -> bool:
    """Whether a base is not a file of the suite."""
    return name.startswith(MMDET) or name.endswith(".py")


def find_config(name: str) -> Path:
    """The config file of a foreign base. Raises UserError if there is none, or several of this name."""
    if not name.startswith(MMDET):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise UserError(f"base={name}: no such file; give the path of a config file, or {MMDET}NAME")
        return path
    folder, wanted = _mmdet_configs(), name.removeprefix(MMDET).removesuffix(".py")
    paths = [path for path in sorted(folder.rglob("*.py")) if "_base_" not in path.parts]
    found = [path for path in paths if f"/{path.relative_to(folder).with_suffix('')}".endswith(f"/{wanted}")]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(f"{MMDET}{path.relative_to(folder).with_suffix('')}" for path in found)
        raise UserError(f"base={name}: several configs of mmdet have this name; give {places}")
    hint = similar_hint(wanted, [path.stem for path in paths])
    raise UserError(f"base={name}: mmdet has no such config{hint}; valid: the {len(paths)} files below {folder}")


def _mmdet_configs() -> Path:
    """The folder of mmdet's configs; does not import mmdet."""
    package = find_spec("mmdet")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / ".mim" / "configs"


@cache
def load_foreign(name: str, path: Path) -> dict[str, Any]:
    """The content of the config as mmengine resolves it, `_base_` included. Raises UserError if it cannot be used."""
    command = [sys.executable, "-m", "dynamic_rcnn.tools.read_config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    if done.returncode:
        raise UserError(f"base={name}: {(done.stderr.strip().splitlines() or [''])[-1].removeprefix('error: ')}")
    config: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    faults = list(dict.fromkeys(find_faults(config)))
    if faults:
        raise UserError(f"base={name}: {'; '.join(faults)}")
    return config


def resolve_foreign(name: str, path: Path, template: dict[str, Any]) -> dict[str, Any]:
    """The base that a foreign config becomes. template: the base TEMPLATE."""
    return to_base(load_foreign(name, path), template)


def describe(name: str, path: Path) -> list[str]:
    """Lines for the user on what a foreign base takes from its config, and what it does not."""
    config = load_foreign(name, path)
    taken = "model, image pipelines, batch, optimizer and schedule"
    rest = "data set, evaluation, hooks, logging and environment are the suite's"
    lines = [f"base={name}: {taken} are those of {path.name} (mmdet {version('mmdet')}); {rest}"]
    if "L1Loss" in box_losses(config["model"]):
        text = "the box loss is SmoothL1Loss with beta 1.0 in every arm, not the config's L1Loss, which has no beta"
        lines.append(f"base={name}: {text}")
    return lines

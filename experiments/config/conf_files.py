"""The configuration files: bases, clusters, data sets and grids, as they are on disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
BASES = CONF.parents[1] / "dynamic_rcnn" / "configs" / "base"


def names_of(group: str) -> list[str]:
    """The valid choices of a group of files: base, cluster, dataset or grid."""
    folder = BASES if group == "base" else CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


@cache
def load(path: Path) -> dict[str, Any]:
    """A configuration file, unresolved. Do not change the value: it is kept."""
    return dict(OmegaConf.to_container(OmegaConf.load(path)))  # type: ignore[arg-type]


@cache
def load_base(name: str) -> dict[str, Any]:
    """A base as its file has it: the bases in its `defaults`, with what it changes in them. Do not change the value."""
    return dict(OmegaConf.to_container(_merged_base(name)))  # type: ignore[arg-type]


def _merged_base(name: str) -> DictConfig:
    content = dict(load(BASES / f"{name}.yaml"))
    parents = [_merged_base(parent) for parent in content.pop("defaults", []) if parent != "_self_"]
    merged = OmegaConf.merge(*parents, OmegaConf.create(content))
    assert isinstance(merged, DictConfig)
    return merged

"""The configuration files that a launch composes, chosen by Hydra's defaults lists, and their merged content.

Hydra only sees the `defaults` of each file: it decides which files apply and in which order, but does not read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hydra.version
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from dynamic_rcnn.errors import UserError
from experiments.config.arguments import GROUPS
from experiments.config.conf_files import file_of, load, merge, names_of
from experiments.config.foreign_base import is_foreign


class _Repository(ConfigRepository):
    """Gives Hydra the defaults list of each configuration file."""

    def __init__(self) -> None:
        self.sources = []
        self.results: dict[str, ConfigResult] = {}

    def group_exists(self, config_path: str) -> bool:
        return config_path in GROUPS

    def config_exists(self, config_path: str) -> bool:
        return file_of(config_path).is_file()

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        return names_of(group_name)

    def load_config(self, config_path: str) -> ConfigResult | None:
        if not self.config_exists(config_path):
            return None
        if config_path not in self.results:
            group = config_path.split("/")[0]
            package = "_global_" if group in ("dataset", "grid") else "base" if is_foreign(config_path) else None
            defaults = self._create_defaults_list(config_path, OmegaConf.create(load(config_path).get("defaults", [])))
            source, header = str(file_of(config_path)), {"package": package}
            self.results[config_path] = ConfigResult("main", source, OmegaConf.create(), header, defaults)
        return self.results[config_path]


def chosen_files(groups: Sequence[Override]) -> tuple[dict[str, str], list[ResultDefault]]:
    """The choice of each group, and the files to merge, in order. groups: the arguments that choose files."""
    hydra.version.setbase("1.3")
    found = create_defaults_list(_Repository(), "config", list(groups), prepend_hydra=False, skip_missing=False)
    known = found.overrides.known_choices
    for group in GROUPS:
        if not known.get(group):
            raise UserError(f"{group}: must be given")
    return {group: str(known[group]) for group in GROUPS}, found.defaults


def merged_content(files: Sequence[ResultDefault]) -> dict[str, Any]:
    """The content of the files, each with the values of those after it, unresolved."""
    merged: dict[str, Any] = {}
    for file in files:
        content = {key: value for key, value in load(str(file.config_path)).items() if key != "defaults"}
        for name in reversed((file.package or "").split(".")):
            content = {name: content} if name else content
        merged = merge(merged, content)
    merged.pop("hydra", None)
    return merged

"""Errors of mmengine, mmdet and torch about a configuration that they cannot build, worded for who wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS, Registry

from dynamic_rcnn.errors import UserError

_OF_CONSTRUCTORS = (ImportError, KeyError, TypeError, ValueError, AssertionError)
_LISTED = {registry.name: registry for registry in (OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS)}
_MOST_SHOWN = 120  # characters of a value


@contextmanager
def as_user_error(field: str, config: Any) -> Iterator[None]:
    """Raise UserError for an error of building `config`, which is `field` of the run's configuration."""
    try:
        yield
    except UserError:
        raise
    except _OF_CONSTRUCTORS as error:
        raise UserError(_fault(field, config, error)) from error


def check_type(field: str, name: Any, registry: Registry) -> None:
    """Raise UserError if `registry`, or mmdet's child of it, has no class `name`."""
    with registry.switch_scope_and_registry(None) as scoped:
        if isinstance(name, str) and scoped.get(name) is None:
            raise UserError(_unknown(field, name, registry.name))


def _fault(field: str, config: Any, error: Exception) -> str:
    """One line: field, value and the rule that it breaks."""
    text = str(error.args[0] if error.args else type(error).__name__).split("\n")[0]
    unknown = re.match(r"(\S+) is not in the (?:\w+::)?(.+?) registry", text)
    if unknown:
        return _unknown(_place_of(unknown[1], config, field) or f"{field}.type", *unknown.groups())
    value = str(config)
    shown = f"{field}={value}" if len(value) <= _MOST_SHOWN else field
    rule = text.split(", but got {")[0] if " " in text else f"{text!r} is missing or not valid"
    return f"{shown}: cannot be built: {rule}"


def _unknown(place: str, name: str, registry: str) -> str:
    known = sorted(_LISTED[registry].module_dict) if registry in _LISTED else []
    return f"{place}={name}: unknown; " + (f"valid: {', '.join(known)}" if known else f"mmdet has no such {registry}")


def _place_of(name: str, config: Any, field: str) -> str | None:
    """The field below `field` whose type is `name`; None without one."""
    if isinstance(config, dict) and config.get("type") == name:
        return f"{field}.type"
    if isinstance(config, dict):
        parts = [(f"{field}.{key}", item) for key, item in config.items()]
    else:
        parts = [(f"{field}[{at}]", item) for at, item in enumerate(config)] if isinstance(config, list) else []
    return next((place for path, item in parts if (place := _place_of(name, item, path))), None)

"""Environment variables with which a process passes information to the processes of a run that it starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

_PREFIX = "DYNAMIC_RCNN_"
_PARSERS: dict[str, Callable[[str], Any]] = {
    "claimed": lambda text: text == "1",
    "preflight": lambda text: text == "1",
    "heartbeat": int,
    "restart": int,
    "began": float,
}


@dataclass(frozen=True)
class ProcessEnv:
    """The variables DYNAMIC_RCNN_<FIELD>. None: not set.

    claimed: whether another process holds the run's claim for this one.
    attempt: a token that all processes of an attempt share.
    note: goes into the record of the attempt.
    heartbeat: file descriptor of the pipe for signs of life.
    job, restart, nodes: Slurm's identification of the attempt, such as "123_4", 0, "node[1-2]".
    log: path of rank 0's output, relative to the run directory.
    command: the command line of the launch.
    began: when the batch script of the job started, in seconds since the epoch.
    preflight: whether to check the node before training.
    """

    claimed: bool | None = None
    attempt: str | None = None
    note: str | None = None
    heartbeat: int | None = None
    job: str | None = None
    restart: int | None = None
    nodes: str | None = None
    log: str | None = None
    command: str | None = None
    began: float | None = None
    preflight: bool | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> ProcessEnv:
        """Read the variables from `env`. Ignores values of the wrong type."""
        values = {}
        for field in fields(cls):
            with contextlib.suppress(KeyError, ValueError):
                values[field.name] = _PARSERS.get(field.name, str)(env[variable(field.name)])
        return cls(**values)

    def to_env(self, env: Mapping[str, str] = os.environ) -> dict[str, str]:
        """`env` with these variables, and with no others of this class."""
        others = {name: value for name, value in env.items() if not name.startswith(_PREFIX)}
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        own = {name: "1" if value is True else str(value) for name, value in values.items() if value is not None}
        return others | {variable(name): value for name, value in own.items()}


def variable(field: str) -> str:
    """The name of the environment variable of a field."""
    return _PREFIX + field.upper()

"""RunSpec: everything that decides a run's result, and the identity made of it.

The identity is a hash over the resolved configuration, the data set's fingerprint, the run it starts from and the seed.
What cannot change the result (`NEUTRAL`) is left out, and so is the arm's name: two arms of the same configuration
are the same run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.directory import SCHEMA, SPEC, read_json, write_json_atomic

# Dotted paths that do not change a result: where data lies, how often something is written down.
NEUTRAL = (
    "dataset.root",
    "dataset.train_ann",
    "dataset.val_ann",
    "dataset.train_img",
    "dataset.val_img",
    "config.train.workers",
    "config.train.log_interval",
    "config.train.checkpoint_interval",
    "config.train.keep_checkpoints",
    "config.train.val_interval",
)

ID_DIGITS = 10
_ABSENT = "(absent)"


@dataclass(frozen=True)
class RunSpec:
    """One run. `init` is None or {"run": id of the run whose final weights it starts from}."""

    arm: str
    seed: int
    dataset: dict[str, Any]
    config: dict[str, Any]
    init: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """Ten hex digits of the sha256 over what changes the result."""
        return digest({"seed": self.seed, **_shared(self)})

    @property
    def setting(self) -> str:
        """Like `id`, without the seed."""
        return digest(_shared(self))

    @property
    def name(self) -> str:
        return f"{self.arm}/seed{self.seed}"

    def directory(self, runs: Path) -> Path:
        """Where this run's directory is made: under the name of the arm that first asked for it."""
        return runs / self.dataset["name"] / self.arm / f"seed{self.seed}-{self.id}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self.id,
            "arm": self.arm,
            "seed": self.seed,
            "dataset": self.dataset,
            "init": self.init,
            "config": self.config,
        }

    def write(self, run_dir: Path) -> None:
        write_json_atomic(run_dir / SPEC, self.to_dict())

    @classmethod
    def read(cls, run_dir: Path) -> RunSpec:
        """The spec in `run_dir`. Raises UserError for a missing, corrupt, foreign or newer file."""
        value = read_json(run_dir / SPEC)
        kinds = {"arm": str, "seed": int, "dataset": dict, "config": dict, "init": dict | None}
        for key, kind in kinds.items():
            if not isinstance(value.get(key), kind):
                raise UserError(f"{run_dir / SPEC}: no spec of a run (field {key!r} is missing or of another type)")
        return cls(*(value.get(key) for key in kinds))  # type: ignore[arg-type]


def digest(value: Any) -> str:
    """Ten hex digits of the sha256 of `value`'s canonical JSON."""
    infinite = [path for path, item in _leaves(value, "") if isinstance(item, float) and not math.isfinite(item)]
    if infinite:
        raise UserError(f"{infinite[0]}: must be a finite number")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def differences(one: RunSpec, other: RunSpec) -> list[tuple[str, Any, Any]]:
    """(dotted field, value in `one`, value in `other`) for each field in which the identities differ."""
    left, right = ({"seed": spec.seed, **flatten(_shared(spec))} for spec in (one, other))
    fields = sorted(set(left) | set(right))
    pairs = ((field, left.get(field, _ABSENT), right.get(field, _ABSENT)) for field in fields)
    return [(field, a, b) for field, a, b in pairs if a != b]


def find_run(runs: Path, spec: RunSpec) -> Path:
    """The directory of the run with `spec`'s identity, under whichever arm's name; else where it would be made."""
    own = spec.directory(runs)
    if own.exists():
        return own
    found = sorted((runs / spec.dataset["name"]).glob(f"*/seed{spec.seed}-{spec.id}"))
    return found[0] if found else own


def is_aside(run_dir: Path) -> bool:
    """Whether a run's directory was moved aside (seed0-<id>.stale1): it is no run of any grid any more."""
    return "." in run_dir.name


def _shared(spec: RunSpec) -> dict[str, Any]:
    content = {"dataset": spec.dataset, "config": spec.config, "init": spec.init}
    return {key: _without(value, key) for key, value in content.items()}


def _without(value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if f"{path}.{key}" not in NEUTRAL}
    return {key: _without(item, f"{path}.{key}") for key, item in kept.items()}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted path -> value of everything in nested mappings; lists and empty mappings are values."""
    return dict(_leaves(value, path))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value

"""RunSpec: everything that decides a run's result, and the id made of it.

The id is a hash of the resolved configuration, the data set's fingerprint, the run that it starts from and the seed.
Fields that cannot change the result (`NEUTRAL`) are left out, and so is the arm's name: two arms with the same
configuration are the same run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Strict

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.files import SCHEMA, SPEC, read_json, write_json_atomic
from dynamic_rcnn.run.results import BENCHMARK, PRETRAIN
from dynamic_rcnn.run.schema import validate

# Fields that do not change a result: paths of the data, what `fingerprint` covers, and how often something is written.
NEUTRAL = (
    "dataset.root",
    "dataset.stage",
    "dataset.train_fingerprint",
    "dataset.train_ann",
    "dataset.val_ann",
    "dataset.train_img",
    "dataset.val_img",
    "init.file",
    "config.train.processes",  # beyond rounding
    "config.train.workers",
    "config.train.prefetch",
    "config.train.log_interval",
    "config.train.checkpoint_interval",
    "config.train.keep_checkpoints",
    "config.train.val_interval",
    "config.train.evaluator",
    *(f"config.model.train_cfg.{stage}.assigner.gpu_assign_thr" for stage in ("rpn", "rcnn")),  # beyond rounding
)

# Fields that do not change a result either if nothing is trained, because all weights come from a file.
TRAINING_ONLY = (
    "config.train",
    "config.optim_wrapper",
    "config.param_scheduler",
    "config.model.train_cfg",
    "config.model.backbone.init_cfg",
    "config.data.train_pipeline",
    "config.data.filter_cfg",
)

ID_DIGITS = 10
_ABSENT = "(absent)"


TRAIN, EVALUATE = "train", "evaluate"
TASKS = (TRAIN, PRETRAIN, EVALUATE, BENCHMARK)

# Which T and beta of another run are replayed, besides "all" in their order; SHUFFLED is drawn from the run's seed
FINAL_VALUES, REVERSED, SHUFFLED = "final", "reversed", "shuffled"

HOTCOCO, PYCOCOTOOLS = "hotcoco", "pycocotools"
EVALUATORS = (HOTCOCO, PYCOCOTOOLS)  # what computes the metrics, equal to the last bit; the first is the default

EPOCH = "epoch"  # train.val_interval: evaluate after each epoch


def _check_task(task: str) -> str:
    if task not in TASKS:
        raise ValueError(f"must be one of {', '.join(TASKS)}")
    return task


@dataclass(frozen=True)
class RunSpec:
    """One run.

    init: None, {"run": id of the run whose final weights it starts from, "setting": of that run, "part": the part of
        the model whose weights it takes}, or, for a run that evaluates, either {"sha256": digest of a file of weights,
        "file": its absolute path} or {"run": id of the run whose final weights it evaluates, "setting": of that run}.
    replay: None or {"run": id of the run whose T and beta it trains with, "setting": of that run, "values":
        "final" (also if absent), "all", "reversed" or "shuffled", "of_other_seed": true if that run has another seed}.
    task: one of TASKS.
    """

    arm: str
    seed: Annotated[int, Strict()]
    dataset: dict[str, Any]
    config: dict[str, Any]
    init: dict[str, Any] | None = None
    replay: dict[str, Any] | None = None
    task: Annotated[str, AfterValidator(_check_task)] = TRAIN

    @cached_property
    def id(self) -> str:
        """Ten hex digits of the sha256 over everything that decides the result."""
        return _hashed(f'{self._content[:-1]},"seed":{self.seed}}}')

    @cached_property
    def _content(self) -> str:
        return _joined(self._parts)

    @cached_property
    def _parts(self) -> dict[str, str]:
        return {name: canonical(value, name) for name, value in _shared(self).items()}

    @cached_property
    def setting(self) -> str:
        """Like `id`, without the seeds of this run, of the run that it starts from and of one that it replays."""
        sources = {"init": self.init, "replay": self.replay}
        without = {name: canonical(_without_run(source)) for name, source in sources.items() if name in self._parts}
        return _hashed(_joined({**self._parts, **without}))

    def with_seed(self, seed: int, **sources: dict[str, Any] | None) -> RunSpec:
        """The same run with another seed, and other `init` and `replay` if given. They share serialised content."""
        other = replace(self, seed=seed, **sources)  # type: ignore[arg-type]
        changed = {name: canonical(source) for name, source in sources.items() if name in self._parts}
        other.__dict__["_parts"] = {**self._parts, **changed}
        return other

    @property
    def name(self) -> str:
        return f"{self.arm}/seed{self.seed}"

    @property
    def source(self) -> dict[str, Any] | None:
        """The run of another arm that this one replays, or whose final weights it evaluates: {"run", "setting"}."""
        return self.replay or (self.init if self.task == EVALUATE and self.init and "setting" in self.init else None)

    @property
    def needs(self) -> list[str]:
        """The ids of the runs that must be done before this one can start."""
        return [found["run"] for found in (self.init, self.replay) if found and "run" in found]

    @property
    def has_masks(self) -> bool:
        """Whether the model predicts a mask for each box."""
        return bool(self.config.get("model", {}).get("roi_head", {}).get("mask_head"))

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """The models that the run builds, by arm: a timing run builds those of all its arms."""
        return dict(self.config["arms"]) if self.task == BENCHMARK else {self.arm: self.config["model"]}

    @property
    def processes(self) -> int:
        """The number of processes that train the run together."""
        return int(self.config["train"].get("processes", 1))

    @property
    def evaluator(self) -> str:
        """One of EVALUATORS; specs of the first versions do not name it."""
        return str(self.config["train"].get("evaluator", HOTCOCO))

    def directory(self, runs: Path) -> Path:
        """The directory in which this run is created. It keeps the name of the arm that first created it."""
        return runs / self.dataset["name"] / self.arm / f"seed{self.seed}-{self.id}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self.id,
            "arm": self.arm,
            "seed": self.seed,
            "dataset": self.dataset,
            "init": self.init,
            **_later_parts(self),
            "config": self.config,
        }

    def write(self, run_dir: Path) -> None:
        write_json_atomic(run_dir / SPEC, self.to_dict())

    @classmethod
    def read(cls, run_dir: Path) -> RunSpec:
        """Read the spec in `run_dir`. Raises UserError for a missing, corrupt, foreign or newer file."""
        way_out = "if a newer version wrote it, update this one"
        return validate(cls, read_json(run_dir / SPEC), file=run_dir / SPEC, way_out=way_out)


def _joined(parts: dict[str, str]) -> str:
    return f"{{{','.join(f'{canonical(name)}:{text}' for name, text in sorted(parts.items()))}}}"


def _without_run(source: dict[str, Any] | None) -> dict[str, Any] | None:
    """`init` or `replay` without the id of the run, if it has the run's setting."""
    return {key: value for key, value in source.items() if key != "run"} if source and "setting" in source else source


def digest(value: Any) -> str:
    """Ten hex digits of the sha256 of the canonical JSON of `value`."""
    return _hashed(canonical(value))


def canonical(value: Any, path: str = "") -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text. Raises UserError for an infinity or NaN.

    path: the dotted field that has the value, for the error.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        infinite = [path for path, item in _leaves(value, path) if isinstance(item, float) and not math.isfinite(item)]
        raise UserError(f"{infinite[0]}: must be a finite number" if infinite else str(error)) from None


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def differences(one: RunSpec, other: RunSpec) -> list[tuple[str, Any, Any]]:
    """(dotted field, value in `one`, value in `other`) for each field that decides the result and differs."""
    left, right = ({"seed": spec.seed, **_shared(spec)} for spec in (one, other))
    return sorted(_unequal(left, right, ""), key=lambda difference: difference[0])


def _unequal(left: Any, right: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The leaves below `path` that differ. Compares mappings as a whole first, because comparing all leaves is slow."""
    if left == right:
        return
    if left and right and isinstance(left, dict) and isinstance(right, dict):
        for key in {**left, **right}:
            yield from _unequal(left.get(key, _ABSENT), right.get(key, _ABSENT), f"{path}.{key}" if path else key)
        return
    one, other = ({} if side == _ABSENT else flatten(side, path) for side in (left, right))
    for field in {**one, **other}:
        yield field, one.get(field, _ABSENT), other.get(field, _ABSENT)


def is_moved_aside(run_dir: Path) -> bool:
    """Whether a run directory was moved aside (seed0-<id>.stale1): it no longer belongs to any grid."""
    return "." in run_dir.name


def _shared(spec: RunSpec) -> dict[str, Any]:
    content = {"dataset": spec.dataset, "config": spec.config, "init": spec.init, **_later_parts(spec)}
    neutral = {*NEUTRAL, *(TRAINING_ONLY if spec.task == EVALUATE else ())}
    return {key: _without(value, key, neutral) for key, value in content.items()}


def _later_parts(spec: RunSpec) -> dict[str, Any]:
    """The fields that the first versions did not have, if they are set. Thus ids of older specs do not change."""
    parts: dict[str, Any] = {"replay": spec.replay} if spec.replay is not None else {}
    return parts | ({"task": spec.task} if spec.task != TRAIN else {})


def _without(value: Any, path: str, neutral: set[str]) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if f"{path}.{key}" not in neutral}
    return {key: _without(item, f"{path}.{key}", neutral) for key, item in kept.items()}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted path -> value. Lists and empty mappings are values."""
    return dict(_leaves(value, path))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value

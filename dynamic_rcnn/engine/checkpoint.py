"""Checkpoints: written atomically and verified when read; the newest intact one is used.

The name of a checkpoint ends in the first 8 hex digits of its sha256 (`iter_000200-1a2b3c4d.pth`, OpenMMLab's
convention), so that one rename publishes content and digest together. Keys of the content:

    meta        schema, run, iteration
    state_dict  the model, with exactly the keys of mmdet's classes
    optimizer, param_schedulers
    scaler      the scale of the loss; empty unless the precision is fp16
    schedules   T, beta and both windows of each group of images, by its number; of a Cascade head, those of its stages

T and beta are not in `state_dict`, so that weights load strictly from mmdet's models into these and back.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from dynamic_rcnn.errors import NaNLossError, UserError
from dynamic_rcnn.run.files import write_bytes_atomic


def _history_method(owner: Any, name: str) -> Any:
    """The only `getattr` that a checkpoint may call: for a statistic of mmengine's HistoryBuffer."""
    if owner is HistoryBuffer and name in ("min", "max", "current", "mean"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"getattr({owner!r}, {name!r}) is not allowed in a checkpoint")


# What mmengine's own checkpoints contain besides tensors: the message hub's buffers of logged scalars.
_MMENGINE_GLOBALS: list[Any] = [
    HistoryBuffer,
    (_history_method, "builtins.getattr"),
    (np.ndarray.__reduce__(np.zeros(1))[0], "numpy._core.multiarray._reconstruct"),
    (np.ndarray.__reduce__(np.zeros(1))[0], "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32")),
]

_NAME = re.compile(r"iter_(\d+)-([0-9a-f]{8})\.pth")
_BENCHMARK = ("backbone.body.", "rpn.head.", "roi_heads.box.")  # how keys of maskrcnn-benchmark begin


def save(folder: Path, content: dict[str, Any], keep: int) -> Path:
    """Write a checkpoint atomically, then remove all but the newest `keep`. Raises OSError if the disk is full."""
    data = serialise(content)
    digest = hashlib.sha256(data).hexdigest()[:8]
    path = folder / f"iter_{content['meta']['iteration']:06d}-{digest}.pth"
    write_bytes_atomic(path, data)
    remove_old(folder, keep)
    return path


def save_weights(path: Path, run_id: str, iteration: int, model: nn.Module) -> None:
    """Write only the model's weights, atomically."""
    meta = {"run": run_id, "iteration": iteration}
    write_bytes_atomic(path, serialise({"meta": meta, "state_dict": model.state_dict()}))


def is_complete(path: Path, runs: Collection[str], iteration: int) -> bool:
    """Whether `path` holds the weights of one of `runs` after `iteration`, as `save_weights` wrote them."""
    try:
        meta = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["meta"]
    except Exception:  # missing, damaged, or made elsewhere
        return False
    return meta.get("run") in runs and meta.get("iteration") == iteration


def check_finite(model: nn.Module) -> None:
    """Raise NaNLossError if a weight is not finite, which an infinite gradient of a finite loss can cause."""
    weights = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    if not bool(torch.stack([value.isfinite().all() for value in weights.values()]).all()):
        bad = next(name for name, value in weights.items() if not bool(value.isfinite().all()))
        raise NaNLossError(f"the weights are not finite ({bad})")


def serialise(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deserialise(data: bytes) -> dict[str, Any]:
    """Decode a checkpoint, onto the CPU."""
    content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return content


def read_newest(folder: Path) -> tuple[bytes | None, list[str]]:
    """The bytes of the newest intact checkpoint, if any, and one line for each newer damaged one, which is removed."""
    damaged: list[str] = []
    for _, path, digest in _list(folder):
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest()[:8] == digest:
            return data, damaged
        path.unlink()  # it would count as one of the newest to keep
        damaged.append(f"checkpoint {path.name} is truncated or corrupt; falling back to the one before")
    return None, damaged


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`; not `weights.pth`."""
    for _, path, _ in _list(folder)[keep:]:
        path.unlink(missing_ok=True)


def load_weights(model: nn.Module, path: Path, sha256: str | None = None, part: str = "") -> None:
    """Load weights strictly: a file written here, a published one, or a checkpoint of mmengine's runner.

    part: the submodule whose weights are loaded, such as "backbone"; "" for all. Raises UserError if the file is
    missing, has another digest than `sha256`, does not fit, or has weights that are not finite.
    """
    data = _read_weights(path)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise UserError(
            f"{path}: has changed since this run was planned (sha256 {found[:10]}, planned {sha256[:10]}); "
            "launch again for a new run"
        )
    try:
        with torch.serialization.safe_globals(_MMENGINE_GLOBALS):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); torch.save must have made it"
        ) from None
    parts = [content.get(key) for key in ("state_dict", "model")] if isinstance(content, dict) else []
    weights = next((part for part in parts if isinstance(part, dict)), content)
    if not isinstance(weights, dict):
        raise UserError(f"{path}: not a readable checkpoint (it holds a {type(weights).__name__}, not a state_dict)")
    if part:
        model = model.get_submodule(part)
        weights = {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}
    fault = _misfit(model.state_dict(), weights) or _not_finite(weights)
    if fault:
        raise UserError(f"{path}: does not fit the {part or 'model'}: {fault}")
    model.load_state_dict(weights, strict=True)


def _read_weights(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such weights file; it must be visible where the run happens") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _misfit(wanted: dict[str, torch.Tensor], found: dict[Any, Any]) -> str:
    """Why a state_dict does not fit strictly, with the first keys of each kind; "" if it fits."""
    missing = [key for key in wanted if key not in found]
    unknown = [str(key) for key in found if key not in wanted]
    sizes = [key for key in wanted if key in found and getattr(found[key], "shape", None) != wanted[key].shape]
    parts = [f"{len(missing)} of its {len(wanted)} keys are missing: {_first(missing)}"] if missing else []
    parts += [f"{len(unknown)} keys are not the model's: {_first(unknown)}"] if unknown else []
    if sizes:
        shapes = [tuple(getattr(side[sizes[0]], "shape", ())) for side in (found, wanted)]
        parts.append(f"size mismatch for {_first(sizes)} ({shapes[0]} in the file, {shapes[1]} in the model)")
    if any(key.removeprefix("module.").startswith(_BENCHMARK) for key in unknown):
        parts.append(
            "they are maskrcnn-benchmark's, as in the author's code, whose model is another one: test it there"
        )
    return "; ".join(parts)


def _not_finite(weights: dict[str, torch.Tensor]) -> str:
    bad = [key for key, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    return f"{len(bad)} of its weights are not finite: {_first(bad)}" if bad else ""


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _list(folder: Path) -> list[tuple[int, Path, str]]:
    """(iteration, path, digest in the name) of the checkpoints in `folder`, newest first."""
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.glob("iter_*.pth"))
    return sorted(((int(match[1]), path, match[2]) for match, path in matches if match), reverse=True)

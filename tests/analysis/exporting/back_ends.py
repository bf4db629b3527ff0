"""The tools read back: what a user of each would see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Shown:
    """A run as a tool shows it. curves: (iteration, value) by name."""

    name: str
    curves: dict[str, list[tuple[int, float]]]
    tags: dict[str, str]
    config: str


def read_tensorboard(out: Path) -> list[Shown]:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = []
    for folder in sorted({path.parent for path in out.rglob("*tfevents*")}):
        events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        curves = {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}
        tables, configs = (
            [e.tensor_proto.string_val[0].decode() for e in events.Tensors(n)] for n in ("run", "config")
        )
        tags = dict(line[2:-2].split(" | ", 1) for line in tables[-1].splitlines()[2:])
        assert len(configs) == 1 and "_hparams_/session_start_info" in events.Tags()["tensors"]
        shown.append(Shown(folder.relative_to(out).as_posix(), curves, tags, configs[0]))
    return shown


READERS: dict[str, Callable[[Path], list[Shown]]] = {"tensorboard": read_tensorboard}

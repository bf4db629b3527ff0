"""The tools read back: what a user of each would see."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Shown:
    """A run as a tool shows it. curves: (iteration, value) by name."""

    name: str
    curves: dict[str, list[tuple[int, float]]]
    tags: dict[str, str]
    config: str
    images: list[str] = field(default_factory=list)


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
        images = events.Tags()["images"]
        assert all(events.Images(name)[0].encoded_image_string.startswith(b"\x89PNG") for name in images)
        shown.append(Shown(folder.relative_to(out).as_posix(), curves, tags, configs[0], images))
    return shown


def read_mlflow(out: Path) -> list[Shown]:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'dynamic-rcnn'")
    shown = []
    for run in client.search_runs([experiment.experiment_id]):
        names = [name for name in run.data.metrics]
        history = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        curves = {name: [(each.step, each.value) for each in own] for name, own in history.items()}
        assert run.data.params.get("config.of", "report") == run.data.tags["arm"]
        assert run.info.status == {"done": "FINISHED", "failed": "FAILED"}[run.data.tags["state"]]
        config = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/spec.json")
        files = client.list_artifacts(run.info.run_id, "figures")
        images = [file.path.removesuffix(".png") for file in files]
        shown.append(Shown(run.info.run_name, curves, run.data.tags, config, images))
    return shown


def read_wandb(out: Path) -> list[Shown]:
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    shown = []
    for path in sorted(out.rglob("*.wandb")):
        curves: dict[str, list[tuple[int, float]]] = {}
        images: list[str] = []
        config: dict[str, Any] = {}
        for content in _records(path.read_bytes()):
            record = internal.Record.FromString(content)
            if record.HasField("run"):
                name, run_id = record.run.display_name, record.run.run_id
            updates = [*record.run.config.update, *record.config.update]
            config |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in updates}
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for key in values.keys() - {"iteration"}:
                if key.startswith("figures/"):
                    images.append(key)
                elif not key.startswith("_"):
                    curves.setdefault(key, []).append((values["iteration"], values[key]))
        assert name.endswith(run_id) or name == "report"
        shown.append(Shown(name, curves, config, json.dumps(config["spec"]), images))
    return shown


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a W&B file, which is a log of LevelDB after a header of 7 bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # too short for a record: padding
            at += BLOCK - at % BLOCK
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


BLOCK = 32768
READERS: dict[str, Callable[[Path], list[Shown]]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}

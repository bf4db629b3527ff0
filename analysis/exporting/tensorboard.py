"""TensorBoard: one event file per run, in a folder with the run's name."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.exporting.exported_run import ExportedRun
from analysis.exporting.tracker import Tracker, require

_FILE = "events.out.tfevents."  # TensorBoard reads files with this in their names


class TensorBoard(Tracker):
    """Writes TensorBoard's event files. A run that is replaced gets a new file, because TensorBoard reads on."""

    def __init__(self, out: Path) -> None:
        require("tensorboard")
        super().__init__(out, f"tensorboard --logdir {out}")

    def write(self, run: ExportedRun, first: int | None) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        number = max([int(path.name.split(".")[-2]) for path in folder.glob(f"{_FILE}*")], default=0)
        if first is None:
            for path in folder.glob(f"{_FILE}*"):
                path.unlink()
            number += 1
        with (folder / f"{_FILE}{number:010d}.{run.id}").open("ab") as file:
            writer = RecordWriter(file)
            for event in _events(run, first):
                writer.write(event.SerializeToString())


def _events(run: ExportedRun, first: int | None) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    points = run.points[first or 0 :]
    time = points[0].time if points else 0.0
    if first is None:
        yield Event(wall_time=time, file_version="brain.Event:2")
        yield Event(wall_time=time, summary=Summary(value=[_config(run), _hyperparameters(run)]))
        for name, draw in run.figures.items():
            yield Event(wall_time=time, step=run.iteration, summary=Summary(value=[_image(name, draw())]))
    for point in points:
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        yield Event(wall_time=point.time, step=point.iteration, summary=Summary(value=scalars))
    yield Event(wall_time=time, step=run.iteration, summary=Summary(value=[_tags(run)]))


def _config(run: ExportedRun) -> Any:
    text = json.dumps(run.config, indent=1)
    return _text("config", "\n".join(f"    {line}" for line in text.splitlines()))


def _tags(run: ExportedRun) -> Any:
    rows = [f"| {name} | {value} |" for name, value in run.tags.items()]
    return _text("run", "\n".join(["| | |", "| --- | --- |", *rows]))


def _image(name: str, png: bytes) -> Any:
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = Image.open(io.BytesIO(png)).size
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary.Value(tag=name, image=image)


def _text(name: str, markdown: str) -> Any:
    """A text for TensorBoard's text page."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text.metadata import create_summary_metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    metadata = create_summary_metadata(display_name=name, description="")
    return Summary.Value(tag=name, metadata=metadata, tensor=make_tensor_proto([markdown]))


def _hyperparameters(run: ExportedRun) -> Any:
    """The run's row in TensorBoard's table of hyperparameters, whose metrics are the last values of the curves."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION)
    for name in ("dataset", "arm", "seed", "grids", "code", "commit"):
        data.session_start_info.hparams[name].string_value = run.tags.get(name, "")
    content = metadata.create_summary_metadata(data)
    return Summary.Value(tag=metadata.SESSION_START_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR)

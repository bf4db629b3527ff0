"""MLflow: a SQLite store in the folder, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

from analysis.exporting.exported_run import ExportedRun, State
from analysis.exporting.tracker import PROJECT, Tracker, from_text, require, to_text
from dynamic_rcnn.run.spec import flatten

_STATE = "exported"  # the tag that has the state
_STATUS = {"running": "RUNNING", "done": "FINISHED"}
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100  # of one request


class MLflow(Tracker):
    """Writes MLflow's runs, which it finds by their tag `run`. A run that is replaced is deleted."""

    def __init__(self, out: Path) -> None:
        require("mlflow")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # they report the creation of each table
            logging.getLogger(name).setLevel(logging.WARNING)
        own = f"sqlite:///{out.resolve()}/mlflow.db"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or own
        super().__init__(out, f"mlflow ui --backend-store-uri {uri}")
        if uri == own:
            out.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(name)
        artifacts = (out.resolve() / "artifacts").as_uri() if uri == own else None
        self.experiment = found.experiment_id if found else self.client.create_experiment(name, artifacts)

    def read_state(self, run: ExportedRun) -> State | None:
        found = self._find(run)
        return from_text(found.data.tags.get(_STATE)) if found else None

    def write_state(self, run: ExportedRun, state: State | None) -> None:
        if found := self._find(run):
            self.client.set_tag(found.info.run_id, _STATE, to_text(state))

    def write(self, run: ExportedRun, first: int | None) -> None:
        from mlflow.entities import Metric, RunTag

        found = self._find(run)
        if found and first is None:
            self.client.delete_run(found.info.run_id)
        own = found.info.run_id if found and first is not None else self._create(run)
        points = run.points[first or 0 :]
        metrics = [
            Metric(name, value, int(1000 * point.time), point.iteration)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self.client.log_batch(own, metrics[start : start + _MOST_METRICS])
        self.client.log_batch(own, tags=[RunTag(name, value) for name, value in run.tags.items()])
        ended = int(1000 * run.points[-1].time) if run.points else None
        status = _STATUS.get(run.tags["state"], "FAILED")
        if run.is_over:
            self.client.set_terminated(own, status, ended)
        else:
            self.client.update_run(own, status)

    def _find(self, run: ExportedRun) -> Any:
        found = self.client.search_runs([self.experiment], f"tags.run = '{run.id}'", max_results=1)
        return found[0] if found else None

    def _create(self, run: ExportedRun) -> str:
        from mlflow.entities import Param
        from PIL import Image

        started = int(1000 * run.points[0].time) if run.points else None
        created = self.client.create_run(self.experiment, started, {"run": run.id}, run.name)
        own = str(created.info.run_id)
        parameters = [Param(name, str(value)) for name, value in flatten(run.config).items()]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self.client.log_batch(own, params=parameters[start : start + _MOST_PARAMETERS])
        self.client.log_dict(own, dict(run.config), "spec.json")
        for name, draw in run.figures.items():
            self.client.log_image(own, Image.open(io.BytesIO(draw())), artifact_file=f"{name}.png")
        return own

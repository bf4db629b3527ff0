"""Weights & Biases, offline: `wandb sync` sends what is written."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

from analysis.exporting.exported_run import ExportedRun, State
from analysis.exporting.tracker import PROJECT, Tracker, require


class WandB(Tracker):
    """Writes W&B's offline runs, whose ids are those of the suite.

    An offline run can be continued only by the process that began it. Thus runs that are not over stay open, and a
    later process replaces what it finds. Sending a run of the same id again replaces it on the server.
    """

    def __init__(self, out: Path) -> None:
        require("wandb")
        super().__init__(out, f"wandb sync {out}/*/*/*/wandb/offline-run-* {out}/report/wandb/offline-run-*")
        self.sessions: dict[str, Any] = {}
        self.states: dict[str, State | None] = {}  # of the sessions; on disk are those of complete runs

    def read_state(self, run: ExportedRun) -> State | None:
        return self.states[run.id] if run.id in self.sessions else super().read_state(run)

    def write_state(self, run: ExportedRun, state: State | None) -> None:
        if run.id in self.sessions:
            self.states[run.id] = state
        else:
            super().write_state(run, state)

    def write(self, run: ExportedRun, first: int | None) -> None:
        session = self.sessions.pop(run.id, None)
        if session is None or first is None:
            if session is not None:
                session.finish()
            shutil.rmtree(self.folder(run) / "wandb", ignore_errors=True)
            session, first = self._start(run), 0
        for point in run.points[first:]:
            session.log({"iteration": point.iteration, **point.values})
        session.config.update(dict(run.tags), allow_val_change=True)
        if run.is_over:
            session.finish()
        else:
            self.sessions[run.id] = session

    def _start(self, run: ExportedRun) -> Any:
        import wandb
        from PIL import Image

        # nothing of this process and its machine, which did not train the run
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        session = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=folder,
            id=run.id,
            name=run.name,
            group=run.tags["arm"],
            tags=[run.tags["dataset"], *filter(None, run.tags["grids"].split(", "))],
            config={"spec": run.config},
            mode="offline",
            reinit="create_new",
            settings=settings,
        )
        session.define_metric("iteration")
        session.define_metric("*", step_metric="iteration")
        self.open.callback(session.finish)
        for name, draw in run.figures.items():
            session.log({"iteration": run.iteration, name: wandb.Image(Image.open(io.BytesIO(draw())))})
        return session

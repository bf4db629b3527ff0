"""Export runs to TensorBoard, Weights & Biases or MLflow: their curves, configuration, tags and final metrics.

    python analysis/export.py to=tensorboard|wandb|mlflow [runs=runs] [out=runs/tensorboard] [watch=true]

to     the tool; its package must be installed: pip install -e '.[tensorboard]', '.[wandb]' or '.[mlflow]'
runs   the folder of runs, relative to the current directory; default: runs in the project's root
out    the folder to write to; default: one of the tool's name in the folder of runs. A folder of records needs out=
watch  true: export what is new every 10 seconds until all runs are done; Ctrl-C ends it

Each run becomes one run of the tool, whatever the number of its attempts; one more, `report`, has the report's figures.
Exporting again adds what is new. Curves are those of train.jsonl, over the iteration; metrics are in percent. Nothing
is sent over the network, unless MLFLOW_TRACKING_URI names a server.
Exit codes: 0 exported, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dynamic_rcnn import cli

if __name__ == "__main__":
    cli.prepare_process()

from analysis.exporting.exported_run import export_run
from analysis.exporting.mlflow import MLflow
from analysis.exporting.report_figures import export_figures
from analysis.exporting.tensorboard import TensorBoard
from analysis.exporting.tracker import Tracker
from analysis.exporting.wandb import WandB
from analysis.reading import checksums
from analysis.reading.run import MISSING, UNREADABLE
from analysis.reading.run_table import collect, read_folder
from analysis.sections.page import build
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.wording import plural

TRACKERS: dict[str, type[TensorBoard] | type[MLflow] | type[WandB]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
DEFAULTS = {"to": "", "runs": "", "out": "", "watch": "false"}
WATCH_S = 10


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for bad input, and KeyboardInterrupt after the tracker is closed."""
    values = cli.parse(arguments, DEFAULTS)
    watch = cli.boolean("watch", values["watch"])
    if not values["to"]:
        raise UserError(f"give to=, the tool to export to; valid: {', '.join(sorted(TRACKERS))}")
    if values["to"] not in TRACKERS:
        raise unknown_name("tool", [values["to"]], TRACKERS)
    runs = Path(values["runs"]) if values["runs"] else ROOT / "runs"
    if not values["out"] and (runs / checksums.NAME).exists():
        raise UserError(f"out= must be given for the records in runs={runs}: nothing must be written among records")
    tracker = TRACKERS[values["to"]](Path(values["out"]) if values["out"] else runs / values["to"])
    exporter = Exporter(tracker, runs, waits=watch)
    with tracker.open:
        while exporter.export() and watch:
            time.sleep(WATCH_S)
    print(f"look at them with: {tracker.look}")
    return 0


class Exporter:
    """Exports the folder `runs` again and again. waits: for runs that have not started."""

    def __init__(self, tracker: Tracker, runs: Path, waits: bool) -> None:
        self.tracker, self.runs, self.waits = tracker, runs, waits
        self._said: set[str] = set()  # problems
        self._done: set[str] = set()  # the runs that the exported figures show

    def export(self) -> bool:
        """Export what is new. Returns whether some run is not done."""
        grids, runs, reader = read_folder(self.runs)
        cells = [(cell.path, grid.name) for grid in grids for cell in grid.cells]
        started = [run for run in runs if run.state not in (MISSING, UNREADABLE)]
        if not started and not self.waits:
            raise UserError(f"{self.runs}: none of its runs has started; nothing to export")
        written = 0
        for run in started:
            own = [name for path, name in cells if path == run.path]
            exported = reader.attempt(partial(export_run, run, own), self.runs / run.path)
            written += exported is not None and self.tracker.export(exported)
        self._print_new(reader.problems)
        print(f"{self.tracker.out}: {plural('run', len(started))}, {written} with something new", flush=True)
        done = {run.path for run in started if run.state == "done"}
        if done != self._done:
            self._export_figures()
            self._done = done
        planned = {path for path, _ in cells} | {run.path for run in runs}
        return bool(planned - done)

    def _export_figures(self) -> None:
        records = collect(self.runs)
        page = build(records)
        if page.figures and self.tracker.export(export_figures(records, page)):
            print(f"{self.tracker.out}: figures of the report", flush=True)

    def _print_new(self, problems: Sequence[str]) -> None:
        for line in problems:
            if line not in self._said:
                print(f"problem: {line}", file=sys.stderr)
        self._said.update(problems)


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))

"""Makes a large folder of runs and times the report on it.

    python -m benchmarks.time_report folder=FOLDER [runs=2000] [rows=200] [seed=0]

folder   where the runs are made; must not exist yet
runs     number of run directories, in grids of 200 (40 arms with 5 seeds each); 1 in 20 has failed
rows     logged iterations per run, with everything that training logs

Prints the report's wall-clock time, its CPU time and its peak memory.
"""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.metrics.names import BOX_METRICS, IOU_THRESHOLDS
from dynamic_rcnn.run import files
from dynamic_rcnn.run.manifest import relative_manifest_path
from dynamic_rcnn.run.spec import RunSpec
from dynamic_rcnn.run.train_log import HISTOGRAMS, LOG_COLUMNS

DEFAULTS = {"folder": "", "runs": "2000", "rows": "200", "seed": "0"}
ARMS, SEEDS, CLASSES = 40, 5, 80
DATASET = "drawn"
SETTING = "0123456789"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Raises UserError for a folder that exists, or an argument that is not a number."""
    values = parse(arguments, DEFAULTS)
    folder = Path(values.pop("folder"))
    if folder == Path() or folder.exists():
        raise UserError(f"folder={'' if folder == Path() else folder}: must name a folder that does not exist yet")
    size = {name: count(name, value, 0 if name == "seed" else 1) for name, value in values.items()}
    make(folder / "runs", size["runs"], size["rows"], np.random.default_rng(size["seed"]))
    time_report(folder)
    return 0


def make(runs: Path, number: int, rows: int, rng: np.random.Generator) -> None:
    """Write `number` runs and the manifests of their grids into `runs`."""
    cells = [(at // (ARMS * SEEDS), at // SEEDS % ARMS, at % SEEDS) for at in range(number)]
    for grid in range(cells[-1][0] + 1):
        own = [(f"g{grid}a{arm:02}", seed) for at, arm, seed in cells if at == grid]
        entries = []
        for arm, seed in own:
            spec = RunSpec(arm, seed, {"name": DATASET}, {"arm": arm})
            path = spec.directory(runs)
            _write_run(path, spec, rows, rng)
            place = path.relative_to(runs).as_posix()
            entries.append({"arm": arm, "seed": seed, "path": place, "setting": spec.setting})
        arms = list(dict.fromkeys(arm for arm, _ in own))
        manifest = {"schema": 1, "grid": f"g{grid}", "title": f"Grid {grid}", "setting": SETTING, "dataset": DATASET}
        manifest |= {"baseline": arms[0], "arms": {arm: f"arm {arm}" for arm in arms}, "runs": entries}
        files.write_json_atomic(runs / relative_manifest_path(DATASET, f"g{grid}", SETTING), manifest)


def _write_run(path: Path, spec: RunSpec, rows: int, rng: np.random.Generator) -> None:
    failed = rng.random() < 0.05
    path.mkdir(parents=True)
    spec.write(path)
    last = 10 * rows
    attempt = {"number": 1, "started": 0.0, "ended": 1.0, "outcome": "NaN" if failed else "done"}
    cause = "NaN" if failed else None
    status: dict[str, Any] = {"state": "failed" if failed else "done", "cause": cause, "message": None}
    status |= {"iteration": last, "max_iterations": last, "heartbeat": 1.0, "attempts": [attempt]}
    files.write_json_atomic(path / files.STATUS, {"schema": 1, **status})
    provenance = {"schema": 1, "commit": "0" * 40, "dirty": False, "device": "cuda", "code": "0" * 10}
    provenance |= {"versions": {"torch": "2.9.0"}, "command": "python experiments/launch.py"}
    files.write_json_atomic(path / files.PROVENANCE, provenance)
    lines = "".join(f"{json.dumps(row)}\n" for row in _curve(rows, rng))
    (path / files.TRAIN_LOG).write_text(lines, encoding="utf-8")
    if not failed:
        files.write_json_atomic(path / files.METRICS, _metrics(last, rng))
        (path / files.DETECTIONS).write_bytes(gzip.compress(b"[]"))


def _curve(rows: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    values = rng.random((rows, len(LOG_COLUMNS))).tolist()
    for at, drawn in enumerate(values, start=1):
        counts = {kind: rng.integers(0, 500, histogram.bins).tolist() for kind, histogram in HISTOGRAMS.items()}
        histograms = {f"{kind}_histogram": each for kind, each in counts.items()}
        yield {**dict(zip(LOG_COLUMNS, drawn, strict=True)), "iteration": 10 * at, **histograms}


def _metrics(iteration: int, rng: np.random.Generator) -> dict[str, Any]:
    by_class = rng.random((CLASSES, 2)).tolist()
    return {
        **{"schema": 1, "iteration": iteration, "split": "val", "images": 5000},
        "metrics": dict(zip(BOX_METRICS, rng.random(len(BOX_METRICS)).tolist(), strict=True)),
        "by_iou": rng.random(len(IOU_THRESHOLDS)).tolist(),
        "per_class": {f"class{n:02}": {"AP": ap, "AP90": ap90} for n, (ap, ap90) in enumerate(by_class)},
    }


def time_report(folder: Path) -> None:
    """Run the report command on `folder`/runs and print its time and memory. Raises UserError if it fails."""
    command = [sys.executable, str(ROOT / "analysis/report.py"), f"runs={folder / 'runs'}"]
    start = time.perf_counter()
    done = subprocess.run([*command, f"out={folder / 'REPORT.md'}"], stdout=subprocess.DEVNULL)
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise UserError(f"{' '.join(command)}: failed with exit code {done.returncode}")
    cpu, gigabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6  # Linux counts in kB
    print(f"report: {seconds:.1f} s, {cpu:.1f} s of CPU time, {gigabytes:.2f} GB of memory at most")


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))
